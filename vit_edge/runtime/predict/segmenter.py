"""From an image to its maps in one call."""

from collections.abc import Iterable, Iterator

from vit_edge.errors import ImageError, ModelError
from vit_edge.runtime.image.source import ImageSource
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.model.maps import detection_outputs
from vit_edge.runtime.predict.batching import in_batches
from vit_edge.runtime.predict.map_model import Loaded, MapModel
from vit_edge.runtime.predict.segmentation import Segmentation


class Segmenter(MapModel):
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

    def _segmentations(self, loaded: list[Loaded]) -> list[Segmentation]:
        made = self._outputs(loaded)
        return [
            Segmentation(
                {name: values[row].copy() for name, values in made.items()},  # a view keeps the batch alive
                each.size,
                self._seen(each),
                self._labels,
            )
            for row, each in enumerate(loaded)
        ]

    def _check(self, file: ModelFile) -> None:
        first = file.maps[0]
        if len(first.shape) == 3:
            return
        if detection_outputs(file.maps) is not None:
            raise ModelError(f"{file.path} gives boxes: open it with vit_edge.Detector")
        raise ModelError(
            f"{file.path} gives {first.name} {list(first.shape)} per image, which is no map (channels, "
            "rows, columns); name another output, or take vit_edge.Session"
        )
