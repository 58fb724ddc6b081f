"""From an image to its maps in one call."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from vit_edge.arrays import Pixels
from vit_edge.bundle import Role
from vit_edge.errors import ImageError, ModelError
from vit_edge.runtime.image.decode import decode
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, DecodeLimits
from vit_edge.runtime.image.preprocess import Decoding, seen_box, to_pixels
from vit_edge.runtime.image.source import ImageSource, source_name
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.runtime.model.outputs import OutputWanted
from vit_edge.runtime.predict.batching import in_batches
from vit_edge.runtime.predict.image_model import ImageModel, key_file, opened_with
from vit_edge.runtime.predict.segmentation import Segmentation


class _Loaded(NamedTuple):
    pixels: Pixels
    size: tuple[int, int]  # (height, width) of the upright image


class Segmenter(ImageModel):
    """A model of maps (segmentation, saliency, depth) from a bundle or an ONNX file.

    Threads and processes share it as a `Classifier`. Images are decoded in full, as their size is wanted.

    Example:
        >>> segment = Segmenter("bundle/")          # doctest: +SKIP
        >>> segment("cat.jpg").mask().shape         # doctest: +SKIP
        (480, 640)

    Args:
        path: a bundle folder, or an ONNX file with its preprocessing in its metadata.
        provider: `auto` (or None), or the short name of an execution provider such as `openvino`.
        threads: threads within one operator; `auto` measures once what is fastest on this machine, None
            leaves it to onnxruntime.
        model: which model of a bundle: a role (`float`, `quantized`) or a path inside it; by default the one
            that the bundle names.
        limits: the formats of images that are taken and how large they may be, as for `Classifier`.
        output: of a file with several maps, the name of the one that comes first.
        trust: a public key whose owner must have signed the bundle, as for `Classifier`.

    Raises:
        ModelError: the model cannot be read or loaded, gives no map (channels, rows, columns), or does not
            say how images are preprocessed.
        BundleError: the bundle is malformed (IntegrityError: a file is not the recorded one; SignatureError:
            it is not what was signed).
        MissingExtraError: a signature is to be checked, and the library for that is not installed.
        ProviderError: the requested provider is not the one that would run.
    """

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
        _check_maps(file)
        super().__init__(
            file, opened_with(path, provider, threads, Decoding.EXACT, model, limits), output, key
        )
        self._labels = file.labels

    def __reduce__(self) -> tuple[type["Segmenter"], tuple[object, ...]]:
        path, provider, threads, _, model, limits = self._arguments
        return type(self), (path, provider, threads, model, limits, *self._more)

    @property
    def labels(self) -> tuple[str, ...] | None:
        """One per channel of the first map, None where the file has none."""
        return self._labels

    def __call__(self, source: ImageSource) -> Segmentation:
        """The maps of one image.

        Args:
            source: a path, the bytes of a file, a file object, a Pillow image, or uint8 RGB (H, W, 3).

        Raises:
            ImageError: the image cannot be decoded within the limits.
        """
        return self._segmentations([self._loaded(source)])[0]

    def batch(
        self, sources: Iterable[ImageSource], batch_size: int = 4
    ) -> Iterator[Segmentation | ImageError]:
        """The maps of many images: the next are decoded by worker threads while the model runs.

        Yields:
            In the order of the sources, the maps, or the ImageError of an image that is refused.

        Raises:
            UsageError: batch_size below 1; raised at the call, not at the first item.
        """
        return in_batches(sources, self._loaded, self._segmentations, batch_size)

    def _loaded(self, source: ImageSource) -> _Loaded:
        image = decode(source, self._arguments.limits)
        try:
            return _Loaded(to_pixels(image, self._spec), (image.height, image.width))
        except ImageError as error:
            raise ImageError(f"{source_name(source)}: {error}") from None

    def _segmentations(self, loaded: list[_Loaded]) -> list[Segmentation]:
        made = self._session.outputs(np.stack([each.pixels for each in loaded]))
        return [
            Segmentation(
                {name: values[row].copy() for name, values in made.items()},  # a view keeps the batch alive
                each.size,
                seen_box(each.size[1], each.size[0], self._spec),
                self._labels,
            )
            for row, each in enumerate(loaded)
        ]


def _check_maps(file: ModelFile) -> None:
    if not file.maps:
        what = (
            "an embedder: open it with vit_edge.Embedder"
            if file.features
            else ("a classifier: open it with vit_edge.Classifier")
        )
        raise ModelError(f"{file.path} gives no maps, it is {what}")
    first = file.maps[0]
    if len(first.shape) != 3:
        raise ModelError(
            f"{file.path} gives {first.name} {list(first.shape)} per image, which is no map (channels, "
            "rows, columns); name another output, or take vit_edge.Session"
        )
