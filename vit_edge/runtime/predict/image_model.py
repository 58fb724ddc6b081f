"""What a classifier and an embedder share: a loaded model, and how an image becomes what it takes."""

import os
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from vit_edge.errors import ModelError, UsageError
from vit_edge.manifest import Role
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, DecodeLimits
from vit_edge.runtime.image.preprocess import Decoding, decoding_of, load_pixels
from vit_edge.runtime.image.source import ImageSource
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.predict.portions import Portions
from vit_edge.runtime.session.providers import AUTO
from vit_edge.runtime.session.session import Placement, Session, SessionSettings
from vit_edge.spec import PreprocessSpec


class OpenedWith(NamedTuple):
    """What a classifier or an embedder was opened with, in the order of its arguments."""

    path: Path
    provider: str
    threads: int | Literal["auto"] | None
    decoding: Decoding
    model: Role | str | None
    limits: DecodeLimits


def opened_with(
    path: str | os.PathLike[str],
    provider: str | None,
    threads: int | Literal["auto"] | None,
    decoding: Decoding | str,
    model: Role | str | None,
    limits: DecodeLimits | None,
) -> OpenedWith:
    """The arguments as they are meant: a member for its value, the default for None.

    Raises:
        UsageError: a way to decode, or limits, that are none.
    """
    if limits is not None and not isinstance(limits, DecodeLimits):
        raise UsageError(f"limits must be DecodeLimits, got {type(limits).__name__}")
    found = AUTO if provider is None else provider
    return OpenedWith(Path(path), found, threads, decoding_of(decoding), model, limits or DEFAULT_LIMITS)


class ImageModel:
    """A model that takes images of any kind; pickled by the arguments that it was opened with.

    Args:
        file: the model file.
        arguments: what the caller opened it with.
        more: further arguments of the class's own constructor, behind those.

    Raises:
        ModelError: the model cannot be loaded, or does not say how images are preprocessed.
        ProviderError: the requested provider is not the one that would run.
    """

    def __init__(self, file: ModelFile, arguments: OpenedWith, *more: object) -> None:
        self._spec = preprocess_of(file)
        settings = SessionSettings(provider=arguments.provider, threads=arguments.threads)
        self._session = Session(file, settings)
        self._arguments = arguments._replace(path=arguments.path.absolute())
        self._more = more
        self._portions: dict[int, Portions] = {}  # by size of the batch

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        return type(self), (*self._arguments, *self._more)

    @property
    def placement(self) -> Placement:
        """Which provider runs which share of the graph, and why."""
        return self._session.placement

    @property
    def instead_of(self) -> str | None:
        """Which file of the bundle another one runs for, and why; None where the one that is meant runs."""
        return self._session.model.instead_of

    def _portions_of(self, batch_size: int) -> Portions:
        """How batches of a size are divided; a session does that for a model of fixed batch size."""
        divided = self._session.model.batch is None
        return self._portions.setdefault(batch_size, Portions(batch_size, divided=divided))

    def _load(self, source: ImageSource) -> npt.NDArray[np.uint8]:
        return load_pixels(source, self._spec, self._arguments.limits, self._arguments.decoding)


def key_file(trust: str | os.PathLike[str] | None) -> Path | None:
    """A key that the caller trusts, to be found from anywhere.

    Raises:
        UsageError: no path.
    """
    if trust is None:
        return None
    if not isinstance(trust, str | os.PathLike):
        raise UsageError(f"trust must be the path of a public key, got {type(trust).__name__}")
    return Path(trust).absolute()


def preprocess_of(file: ModelFile) -> PreprocessSpec:
    """How images are preprocessed for a model.

    Raises:
        ModelError: the file does not say so.
    """
    if file.preprocess is None:
        raise ModelError(f"{file.path} has no vit_edge.preprocess metadata; export it with vit-edge")
    return file.preprocess
