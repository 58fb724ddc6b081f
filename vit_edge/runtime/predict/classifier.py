"""From an image to labelled probabilities in one call."""

import dataclasses
import os
from collections.abc import Iterable, Iterator
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from vit_edge.bundle import Role
from vit_edge.errors import ImageError, ModelError, UsageError
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, DecodeLimits
from vit_edge.runtime.image.preprocess import Decoding
from vit_edge.runtime.image.source import ImageSource
from vit_edge.runtime.model.file import check_classifier, check_told, read_model
from vit_edge.runtime.model.outputs import OutputWanted
from vit_edge.runtime.predict.batching import in_batches
from vit_edge.runtime.predict.image_model import ImageModel, key_file, opened_with
from vit_edge.runtime.predict.scores import ranking
from vit_edge.spec import OutputKind


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """One class and how probable the model finds it, or one value of a regression."""

    label: str
    score: float  # probability by softmax or sigmoid, 0 to 1; of a regression the value itself
    index: int  # position among the labels


class Classifier(ImageModel):
    """An image classifier from a bundle or an ONNX file.

    Any number of threads may share one. Processes may not: one that is pickled, as `multiprocessing` does
    where it spawns, loads the model again from its path, and after a fork the child must make its own.

    Example:
        >>> classify = Classifier("bundle/")        # doctest: +SKIP
        >>> classify("cat.jpg")[0].label            # doctest: +SKIP
        'tabby'

    Args:
        path: a bundle folder, or an ONNX file with labels and preprocessing in its metadata.
        provider: `auto` (or None), or the short name of an execution provider such as `openvino`.
        threads: threads within one operator; `auto` measures once what is fastest on this machine, None
            leaves it to onnxruntime.
        decoding: how images much larger than the model's input are brought down to it: fast, within the
            tolerance that `load_pixels` states, or exactly as in training (a member, or "fast" or "exact").
            Up to five times the model's size both are the same.
        model: which classifier of a bundle: a role (`float`, `quantized`) or a path inside it
            (`onnx/model.onnx`); by default the one that the bundle names.
        limits: the formats that are taken for images (JPEG, PNG, WebP and BMP unless more are named) and how
            large they may be; None: the default.
        output: of an ONNX file with several outputs, the name of the one to read.
        kind: what its numbers mean, where the file does not say so.
        trust: a public key (PEM file); the bundle must be, to the last file, what its owner has signed.

    Raises:
        ModelError: the model cannot be read or loaded, is no classifier, or does not say how images are
            preprocessed.
        BundleError: the bundle is malformed (IntegrityError: a file is not the recorded one; SignatureError:
            it is not what was signed).
        MissingExtraError: a signature is to be checked, and the library for that is not installed.
        ProviderError: the requested provider is not the one that would run.
        UsageError: an argument that is none of its values.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        provider: str | None = "auto",
        threads: int | Literal["auto"] | None = None,
        decoding: Decoding | str = Decoding.FAST,
        model: Role | str | None = None,
        limits: DecodeLimits | None = DEFAULT_LIMITS,
        output: str | None = None,
        kind: OutputKind | None = None,
        trust: str | os.PathLike[str] | None = None,
    ) -> None:
        key = key_file(trust)
        file = read_model(path, model, OutputWanted(output, kind), key)
        check_classifier(file)
        given = opened_with(path, provider, threads, decoding, model, limits)
        super().__init__(file, given, output, kind, key)
        self._labels = file.labels
        self._ranking = ranking(file.output)
        self._told = file.told

    @classmethod
    def for_server(
        cls,
        path: str | os.PathLike[str],
        model: Role | str | None = None,
        limits: DecodeLimits | None = DEFAULT_LIMITS,
        trust: str | os.PathLike[str] | None = None,
    ) -> Self:
        """One of several processes, or threads, that answer requests on one machine.

        It takes one thread for each request, on the CPU: threads that all want every core wait for one
        another, and on busy cores those that onnxruntime starts by default may take twice as long.

        Args:
            path: as for the class.
            model: as for the class.
            limits: as for the class.
            trust: as for the class.

        Raises:
            VitEdgeError: as the class.
        """
        return cls(path, "cpu", 1, Decoding.FAST, model, limits, trust=trust)

    @property
    def kind(self) -> OutputKind:
        """What the numbers of the model mean, and so how scores are made of them."""
        return self._session.model.output

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
            The most probable classes, most probable first; of a regression all values in their order.

        Raises:
            ImageError: the image cannot be decoded within the limits.
            ModelError: the numbers of the first image are probabilities, of which the file says nothing.
        """
        _require_positive(top_k, "top_k")
        pixels = self._load(source)
        return self._predictions(self._session.run(pixels[None])[0], top_k)

    def batch(
        self, sources: Iterable[ImageSource], batch_size: int = 8, top_k: int = 5
    ) -> Iterator[list[Prediction] | ImageError]:
        """Classify many images: the next are decoded by worker threads while the model runs.

        Of the sources, which may be endless, no more than two batches are held at a time. A batch goes
        through the model whole or in portions, whichever the first batches show to be faster.

        Scores may differ a little from those of single calls: within a batch the last bit of a float32 may
        round differently, which a quantized model can turn into another integer.

        Yields:
            In the order of the sources, the predictions, or the ImageError of an image that is refused. What
            the sources themselves raise is raised after the answers to all before it.

        Raises:
            UsageError: batch_size or top_k below 1; raised at the call, not at the first item.
        """
        _require_positive(top_k, "top_k")

        def run(pixels: list[npt.NDArray[np.uint8]]) -> list[list[Prediction]]:
            portions = self._portions_of(batch_size)
            found = portions.run(pixels, lambda some: list(self._session.run(np.stack(some))))
            return [self._predictions(logits, top_k) for logits in found]

        return in_batches(sources, self._load, run, batch_size)

    def _predictions(self, logits: npt.NDArray[np.float32], top_k: int) -> list[Prediction]:
        if not self._told:
            check_told(self._session.model, logits[None])
            self._told = True  # what one image shows is enough, and costs time
        return [Prediction(self._label(index), score, index) for index, score in self._ranking(logits, top_k)]

    def _label(self, index: int) -> str:
        if self._labels is None:
            return str(index)
        if index >= len(self._labels):
            raise ModelError(
                f"{self._session.model.path} has {len(self._labels)} labels but gives class {index}"
            )
        return self._labels[index]


def _require_positive(value: int, name: str) -> None:
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise UsageError(f"{name} must be an integer, got {value!r}")
    if value < 1:
        raise UsageError(f"{name} must be at least 1, got {value}")
