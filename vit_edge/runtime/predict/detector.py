"""From an image to the objects in it in one call."""

import functools
from collections.abc import Iterable, Iterator

import numpy as np

from vit_edge.errors import ImageError, ModelError, UsageError
from vit_edge.runtime.image.source import ImageSource
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.model.maps import DetectionOutputs, detection_outputs
from vit_edge.runtime.predict.batching import in_batches
from vit_edge.runtime.predict.detection import Detection, Place, detections
from vit_edge.runtime.predict.map_model import Loaded, MapModel

THRESHOLD = 0.5  # the least probability of an object that is given, where none is stated


class Detector(MapModel):
    """A model with a detection head of DETR's form, from a bundle or an ONNX file.

    It gives `pred_boxes` (or `boxes`) (Q, 4) and `logits` (or `pred_logits`) (Q, classes + 1), see
    `runtime.model.maps`. Threads and processes share it as a `Classifier`. Images are decoded in full.

    Example:
        >>> detect = Detector("bundle/")                 # doctest: +SKIP
        >>> detect("street.jpg")[0].box                  # doctest: +SKIP
        (12.1, 40.0, 88.3, 120.9)

    Arguments and errors are those of `Segmenter`; ModelError also where the outputs are not these two.
    """

    _gives = "boxes"

    def __call__(self, source: ImageSource, threshold: float = THRESHOLD) -> tuple[Detection, ...]:
        """The objects of one image, the surest first.

        Args:
            source: a path, the bytes of a file, a file object, a Pillow image, or uint8 RGB (H, W, 3).
            threshold: the least probability of an object that is given, 0 to 1.

        Raises:
            ImageError: the image cannot be decoded within the limits.
            ModelError: the model gives numbers that are not finite.
            UsageError: a threshold outside 0 to 1.
        """
        _check_threshold(threshold)
        return self._found([self._loaded(source)], threshold)[0]

    def batch(
        self, sources: Iterable[ImageSource], batch_size: int = 4, threshold: float = THRESHOLD
    ) -> Iterator[tuple[Detection, ...] | ImageError]:
        """The objects of many images: the next are decoded by worker threads while the model runs.

        Yields:
            In the order of the sources, the objects, or the ImageError of an image that is refused.

        Raises:
            UsageError: batch_size below 1, a threshold outside 0 to 1; raised at the call.
        """
        _check_threshold(threshold)
        answers = functools.partial(self._found, threshold=threshold)
        return in_batches(sources, self._loaded, answers, batch_size)

    def _found(self, loaded: list[Loaded], threshold: float) -> list[tuple[Detection, ...]]:
        made, names = self._outputs(loaded), self._names
        logits, boxes = made[names.logits], made[names.boxes]
        if not (np.isfinite(logits).all() and np.isfinite(boxes).all()):
            raise ModelError(f"{self._arguments.path} gives boxes that are not finite; check the export")
        return [
            detections(logits[row], boxes[row], Place(each.size, self._seen(each)), self._labels, threshold)
            for row, each in enumerate(loaded)
        ]

    def _check(self, file: ModelFile) -> None:
        names = detection_outputs(file.maps)
        if names is None:
            given = ", ".join(f"{each.name} {list(each.shape)}" for each in file.maps)
            raise ModelError(
                f"{file.path} gives {given} per image, which is no detection head: pred_boxes [Q, 4] and "
                "logits [Q, classes + 1] are"
            )
        if file.labels is not None and names.classes not in (len(file.labels), None):
            raise ModelError(
                f"{file.path} has {len(file.labels)} labels for {names.classes} classes of boxes; "
                "state them anew"
            )
        self._names: DetectionOutputs = names


def _check_threshold(threshold: float) -> None:
    if not 0 <= threshold <= 1:
        raise UsageError(f"threshold must lie between 0 and 1, got {threshold}")
