"""What a classifier and an embedder share: a loaded model, and how an image becomes what it takes."""

from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from vit_edge.errors import ModelError
from vit_edge.manifest import Role
from vit_edge.runtime.image.decode import ImageSource
from vit_edge.runtime.image.limits import DecodeLimits
from vit_edge.runtime.image.preprocess import Decoding, load_pixels
from vit_edge.runtime.model.file import ModelFile
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


class ImageModel:
    """A model that takes images of any kind; pickled by the arguments that it was opened with.

    Args:
        file: the model file.
        arguments: what the caller opened it with.

    Raises:
        ModelError: the model cannot be loaded, or does not say how images are preprocessed.
        ProviderError: the requested provider is not the one that would run.
    """

    def __init__(self, file: ModelFile, arguments: OpenedWith) -> None:
        self._spec = preprocess_of(file)
        settings = SessionSettings(provider=arguments.provider, threads=arguments.threads)
        self._session = Session(file, settings)
        self._arguments = arguments._replace(path=arguments.path.absolute())

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        return type(self), tuple(self._arguments)

    @property
    def placement(self) -> Placement:
        """Which provider runs which share of the graph, and why."""
        return self._session.placement

    def _load(self, source: ImageSource) -> npt.NDArray[np.uint8]:
        return load_pixels(source, self._spec, self._arguments.limits, self._arguments.decoding)


def preprocess_of(file: ModelFile) -> PreprocessSpec:
    """How images are preprocessed for a model.

    Raises:
        ModelError: the file does not say so.
    """
    if file.preprocess is None:
        raise ModelError(f"{file.path} has no vit_edge.preprocess metadata; export it with vit-edge")
    return file.preprocess
