"""What models with outputs for places share: opened from a file of maps, images decoded in full."""

import os
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from vit_edge.arrays import Pixels
from vit_edge.bundle import Role
from vit_edge.errors import ImageError, ModelError
from vit_edge.runtime.image.decode import decode
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, DecodeLimits
from vit_edge.runtime.image.preprocess import Decoding, seen_box, to_pixels
from vit_edge.runtime.image.source import ImageSource, source_name
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.runtime.model.outputs import OutputWanted
from vit_edge.runtime.predict.image_model import ImageModel, key_file, opened_with

Outputs = dict[str, npt.NDArray[np.float32]]


class Loaded(NamedTuple):
    """An image as the model takes it, and where that lies on it."""

    pixels: Pixels
    size: tuple[int, int]  # (height, width) of the upright image


class MapModel(ImageModel):
    """A model of maps; what its outputs say is for the classes below this one.

    Arguments and errors are those of `Segmenter`.
    """

    _gives = "maps"

    def __init__(
        self,
        path: str | os.PathLike[str],
        provider: str | None = "auto",
        threads: int | Literal["auto"] | None = None,
        model: Role | str | None = None,
        limits: DecodeLimits | None = DEFAULT_LIMITS,
        output: str | None = None,
        trust: str | os.PathLike[str] | None = None,
    ) -> None:
        key = key_file(trust)
        file = read_model(Path(path), model, OutputWanted(output), key)
        if not file.maps:
            other = "Embedder" if file.features else "Classifier"
            what = f"{'an' if file.features else 'a'} {other.lower()}: open it with vit_edge.{other}"
            raise ModelError(f"{file.path} gives no {self._gives}, it is {what}")
        self._check(file)
        super().__init__(
            file, opened_with(path, provider, threads, Decoding.EXACT, model, limits), output, key
        )
        self._labels = file.labels

    def _check(self, file: ModelFile) -> None:
        """Refuse maps that are not of the kind.

        Raises:
            ModelError: they are not.
        """

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        path, provider, threads, _, model, limits = self._arguments
        return type(self), (path, provider, threads, model, limits, *self._more)

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The names of the classes or channels, None where the file has none."""
        return self._labels

    def _loaded(self, source: ImageSource) -> Loaded:
        image = decode(source, self._arguments.limits)
        try:
            return Loaded(to_pixels(image, self._spec), (image.height, image.width))
        except ImageError as error:
            raise ImageError(f"{source_name(source)}: {error}") from None

    def _outputs(self, loaded: list[Loaded]) -> Outputs:
        """Every output for all of the images, (N, ...)."""
        return self._session.outputs(np.stack([each.pixels for each in loaded]))

    def _seen(self, loaded: Loaded) -> tuple[float, float, float, float]:
        """What of an image the model saw, (left, top, right, bottom) in its pixels."""
        return seen_box(loaded.size[1], loaded.size[0], self._spec)
