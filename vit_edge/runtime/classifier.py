"""From an image to labelled probabilities in one call."""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from vit_edge.errors import ImageError, ModelError, UsageError
from vit_edge.runtime.decode import ImageSource
from vit_edge.runtime.model import read_model
from vit_edge.runtime.preprocess import load_pixels
from vit_edge.runtime.session import Placement, Session, SessionSettings


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One class and how probable the model finds it."""

    label: str
    score: float  # softmax probability, 0 to 1
    index: int  # position among the logits


class Classifier:
    """An image classifier from a bundle or an ONNX file.

    Example:
        >>> classify = Classifier("bundle/")        # doctest: +SKIP
        >>> classify("cat.jpg")[0].label            # doctest: +SKIP
        'tabby'

    Args:
        path: a bundle folder, or an ONNX file with labels and preprocessing in its metadata.
        provider: `auto`, or the short name of an execution provider such as `openvino`.
        threads: threads within one operator; None leaves it to onnxruntime.

    Raises:
        ModelError: the model cannot be read or loaded, or does not say how images are preprocessed.
        BundleError: the bundle is malformed (IntegrityError: a file is not the recorded one).
        ProviderError: the requested provider is not the one that would run.
    """

    def __init__(
        self, path: str | os.PathLike[str], provider: str = "auto", threads: int | None = None
    ) -> None:
        model = read_model(path)
        if model.preprocess is None:
            raise ModelError(f"{model.path} has no vit_edge.preprocess metadata; export it with vit-edge")
        self._session = Session(model, SessionSettings(provider=provider, threads=threads))
        self._spec = model.preprocess
        self._labels = model.labels

    @property
    def placement(self) -> Placement:
        """Which provider runs which share of the graph, and why."""
        return self._session.placement

    @property
    def labels(self) -> tuple[str, ...] | None:
        """One label per class, None where the model file has none; predictions then bear the class index."""
        return self._labels

    def __call__(self, source: ImageSource, top_k: int = 5) -> list[Prediction]:
        """Classify one image.

        Args:
            source: a path, the bytes of a file, a file object, a Pillow image, or uint8 RGB (H, W, 3).
            top_k: how many classes to give; no more than the model has.

        Returns:
            The most probable classes, most probable first.

        Raises:
            ImageError: the image cannot be decoded within the limits.
        """
        _require_positive(top_k, "top_k")
        pixels = load_pixels(source, self._spec)
        return self._predictions(self._session.run(pixels[None])[0], top_k)

    def batch(
        self, sources: Iterable[ImageSource], batch_size: int = 8, top_k: int = 5
    ) -> Iterator[list[Prediction] | ImageError]:
        """Classify many images, `batch_size` of them in memory at a time.

        Yields:
            In the order of the sources, the predictions, or the ImageError of an image that is refused.

        Raises:
            UsageError: batch_size or top_k below 1; raised at the call, not at the first item.
        """
        _require_positive(batch_size, "batch_size")
        _require_positive(top_k, "top_k")
        return self._batches(iter(sources), batch_size, top_k)

    def _batches(
        self, sources: Iterator[ImageSource], batch_size: int, top_k: int
    ) -> Iterator[list[Prediction] | ImageError]:
        while group := list(itertools.islice(sources, batch_size)):
            loaded = [self._load(source) for source in group]
            good = [item for item in loaded if not isinstance(item, ImageError)]
            rows = iter(self._session.run(np.stack(good)) if good else ())
            for item in loaded:
                yield item if isinstance(item, ImageError) else self._predictions(next(rows), top_k)

    def _load(self, source: ImageSource) -> npt.NDArray[np.uint8] | ImageError:
        try:
            return load_pixels(source, self._spec)
        except ImageError as error:
            return error

    def _predictions(self, logits: npt.NDArray[np.float32], top_k: int) -> list[Prediction]:
        scores = softmax(logits)
        best = np.argsort(-scores, kind="stable")[:top_k]  # ties: the lower index first
        return [Prediction(self._label(int(index)), float(scores[index]), int(index)) for index in best]

    def _label(self, index: int) -> str:
        if self._labels is None:
            return str(index)
        if index >= len(self._labels):
            raise ModelError(
                f"{self._session.model.path} has {len(self._labels)} labels but gives class {index}"
            )
        return self._labels[index]


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Probabilities of logits (..., C) along the last axis, in float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _require_positive(value: int, name: str) -> None:
    if value < 1:
        raise UsageError(f"{name} must be at least 1, got {value}")
