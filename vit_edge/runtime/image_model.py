"""What a classifier and an embedder share: a loaded model, and how an image becomes what it takes."""

from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from vit_edge.errors import ModelError
from vit_edge.manifest import Role
from vit_edge.runtime.decode import ImageSource
from vit_edge.runtime.model import ModelFile
from vit_edge.runtime.preprocess import Decoding, load_pixels
from vit_edge.runtime.session import Placement, Session, SessionSettings
from vit_edge.spec import PreprocessSpec


class ImageModel:
    """A model that takes images of any kind; pickled by the arguments that it was opened with.

    Args:
        path: what was opened: a bundle folder, or an ONNX file.
        file: the model file of it.
        provider: as for `SessionSettings`.
        threads: as for `SessionSettings`.
        decoding: how images much larger than the model's input are brought down to it.
        model: which model of a bundle was asked for.

    Raises:
        ModelError: the model cannot be loaded, or does not say how images are preprocessed.
        ProviderError: the requested provider is not the one that would run.
    """

    def __init__(
        self,
        path: Path,
        file: ModelFile,
        provider: str,
        threads: int | Literal["auto"] | None,
        decoding: Decoding,
        model: Role | str | None,
    ) -> None:
        self._spec = preprocess_of(file)
        self._session = Session(file, SessionSettings(provider=provider, threads=threads))
        self._decoding = decoding
        self._arguments = (path.absolute(), provider, threads, decoding, model)

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        return type(self), self._arguments

    @property
    def placement(self) -> Placement:
        """Which provider runs which share of the graph, and why."""
        return self._session.placement

    def _load(self, source: ImageSource) -> npt.NDArray[np.uint8]:
        return load_pixels(source, self._spec, decoding=self._decoding)


def preprocess_of(file: ModelFile) -> PreprocessSpec:
    """How images are preprocessed for a model.

    Raises:
        ModelError: the file does not say so.
    """
    if file.preprocess is None:
        raise ModelError(f"{file.path} has no vit_edge.preprocess metadata; export it with vit-edge")
    return file.preprocess
