"""From an image to a map of what an answer rests on, in one call."""

import dataclasses
import enum
import os
from collections.abc import Sequence
from typing import Literal

import numpy as np

from vit_edge.arrays import Float32, Pixels
from vit_edge.errors import ModelError, UsageError
from vit_edge.manifest import Role
from vit_edge.runtime.explain.attention import ATTENTION_KEY, AttentionLayout, last_attention, rollout
from vit_edge.runtime.explain.occlusion import occlusion_map
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, DecodeLimits
from vit_edge.runtime.image.preprocess import Decoding
from vit_edge.runtime.image.source import ImageSource
from vit_edge.runtime.model.file import ModelFile, check_classifier, check_told, read_model
from vit_edge.runtime.model.outputs import OutputWanted
from vit_edge.runtime.predict.classifier import Prediction
from vit_edge.runtime.predict.image_model import ImageModel, opened_with
from vit_edge.runtime.predict.scores import ranking
from vit_edge.spec import OutputKind
from vit_edge.verify.answers import as_logits
from vit_edge.verify.metrics import log_softmax

STEPS = 14  # of the square that covers, along the shorter side


class Method(enum.Enum):
    """What the map shows; the value is its name on the command line."""

    OCCLUSION = "occlusion"  # of one class: how far its probability falls where the image is covered
    ROLLOUT = "rollout"  # attention through all blocks, whatever the class
    CLS = "cls"  # attention of the last block, whatever the class
    GRADIENT = "gradient"  # of one class: attention through all blocks, by what it does for the class

    @property
    def of_class(self) -> bool:
        """Whether the map is about one class."""
        return self in (Method.OCCLUSION, Method.GRADIENT)


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """A map of heat over what the model sees of an image."""

    heat: Float32
    """(H, W) of the pixels below, in probability (occlusion), or (rows, columns) of the patches."""
    pixels: Pixels
    """(H, W, 3) uint8, resized and cropped as the model sees them."""
    method: Method
    predictions: tuple[Prediction, ...]
    """The likeliest answers."""
    target: str | None
    """The class that the map is about; None where it is about none."""
    index: int | None = None
    """Of that class; labels may be borne by several."""


class Explainer(ImageModel):
    """Explains the answers of a classifier from a bundle or an ONNX file.

    Occlusion works on every classifier. Attention takes a file that `vit-edge export --attention` or
    `quantize --attention` has made.

    Args:
        path: a bundle folder, or an ONNX file with labels and preprocessing in its metadata.
        model: which classifier of a bundle, as for `Classifier`.
        provider: as for `Classifier`.
        threads: as for `Classifier`.
        limits: as for `Classifier`.

    Raises:
        ModelError: as for `Classifier`; or the file gives values, which no part of an image speaks for.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        model: Role | str | None = None,
        provider: str | None = "auto",
        threads: int | Literal["auto"] | None = None,
        limits: DecodeLimits | None = DEFAULT_LIMITS,
    ) -> None:
        file = read_model(path, model, OutputWanted())
        check_classifier(file)
        if file.output is OutputKind.REGRESSION:
            raise ModelError(
                f"{file.path} gives values, not classes, so that nothing speaks for one: use a classifier"
            )
        self._layout = _layout(file)
        super().__init__(file, opened_with(path, provider, threads, Decoding.EXACT, model, limits))

    def __reduce__(self) -> tuple[type["Explainer"], tuple[object, ...]]:
        path, provider, threads, _, model, limits = self._arguments
        return type(self), (path, model, provider, threads, limits)

    @property
    def methods(self) -> tuple[Method, ...]:
        """Those that this file can do."""
        attention = () if self._layout is None else (Method.ROLLOUT, Method.CLS)
        return (Method.OCCLUSION, *attention)

    def __call__(
        self,
        source: ImageSource,
        method: Method | str = Method.OCCLUSION,
        target: int | str | None = None,
        top_k: int = 3,
        steps: int = STEPS,
    ) -> Explanation:
        """Explain the answer to one image.

        Args:
            source: a path, the bytes of a file, a file object, a Pillow image, or uint8 RGB (H, W, 3).
            method: what the map is to show.
            target: of occlusion and gradients, the class by index or label; by default the likeliest.
            top_k: how many answers to give beside the map.
            steps: of occlusion, along the shorter side; the model runs on about as many squared.

        Raises:
            ImageError: the image cannot be decoded within the limits.
            UsageError: no such method or class, or one that attention does not know of.
            ModelError: the file has no attention among its outputs.
        """
        method = _method(method)
        if not 1 <= steps <= 64:
            raise UsageError(f"steps must be from 1 to 64, got {steps}")
        if target is not None and not method.of_class:
            raise UsageError(f"{method.value} is about no class: leave the class out, or use occlusion")
        pixels = self._load(source)
        values = self._session.run(pixels[None])
        check_told(self._session.model, values)
        ranked = ranking(self._session.model.output)(values[0], max(1, top_k))
        predictions = tuple(Prediction(self._name(index), score, index) for index, score in ranked)
        if not method.of_class:
            return Explanation(self._attention(pixels, method), pixels, method, predictions, None)
        index = predictions[0].index if target is None else self._index(target)
        if method is Method.GRADIENT:
            heat = self._by_gradient(pixels, index)
        else:
            heat = occlusion_map(pixels, lambda images: self._probability(images, index), steps)
        return Explanation(heat, pixels, method, predictions, self._name(index), index)

    def _by_gradient(self, pixels: Pixels, index: int) -> Float32:
        """Of the class, one number per patch.

        Raises:
            UsageError: always; a class of the host overrides it.
        """
        del pixels, index
        raise UsageError(
            "gradients take torch: use `vit-edge explain --method gradient` on the host, or occlusion here"
        )

    def _probability(self, images: Pixels, index: int) -> Float32:
        kind = self._session.model.output
        logits = as_logits(kind, self._session.run(images))
        if kind.task is OutputKind.MULTI_LABEL:
            return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits[:, index].astype(np.float64))), np.float32)
        return np.asarray(np.exp(log_softmax(logits)[:, index]), np.float32)

    def _attention(self, pixels: Pixels, method: Method) -> Float32:
        layout = self._layout
        if layout is None:
            raise ModelError(
                f"{self._session.model.path} has no attention among its outputs: make a file with `vit-edge "
                "export --attention` or `vit-edge quantize --attention`, or use occlusion"
            )
        probabilities = [each[0] for each in self._session.inner(pixels[None], layout.outputs)]
        return (rollout if method is Method.ROLLOUT else last_attention)(probabilities, layout)

    def _name(self, index: int) -> str:
        labels = self._session.model.labels
        return str(index) if labels is None or index >= len(labels) else labels[index]

    def _index(self, target: int | str) -> int:
        """The class that is meant."""
        labels, count = self._session.model.labels or (), self._session.model.answers
        places = [index for index, label in enumerate(labels) if label == target]
        if len(places) > 1:
            raise UsageError(f"{target!r} names the classes {places}: give one of these numbers")
        if places:
            return places[0]
        if str(target).isdecimal() and (count is None or int(target) < count):
            return int(target)
        raise UsageError(f"{target!r} is neither a label of {self._session.model.path} nor the index of one")


def correlation(one: Float32, other: Float32) -> float | None:
    """Pearson's correlation of two maps of one shape; None where one of them is flat."""
    if one.shape != other.shape:
        raise UsageError(f"maps of the shapes {one.shape} and {other.shape} cannot be compared")
    first, second = (each.astype(np.float64).ravel() - float(each.mean()) for each in (one, other))
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / length if length > 0 else None


def _method(raw: Method | str) -> Method:
    names: Sequence[str] = [each.value for each in Method]
    if not isinstance(raw, Method) and raw not in names:
        raise UsageError(f"method must be one of {', '.join(names)}, got {raw!r}")
    return Method(raw)


def _layout(file: ModelFile) -> AttentionLayout | None:
    if ATTENTION_KEY not in file.metadata:
        return None
    try:
        return AttentionLayout.of(file.metadata[ATTENTION_KEY])
    except ValueError as error:
        raise ModelError(
            f"{file.path} has unusable {ATTENTION_KEY} metadata ({error}); export it again"
        ) from None
