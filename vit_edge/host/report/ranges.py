"""What quantized activations hold, against the range that their integers can express.

The values are observed in the INT8 file itself, in front of its QuantizeLinear operators, so that it does not
matter who made the file.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from vit_edge.arrays import Pixels
from vit_edge.errors import ModelError
from vit_edge.host.affine import Affine
from vit_edge.host.ort import cpu_session
from vit_edge.host.quantize.histogram import BINS, Histogram
from vit_edge.host.report.operands import Operand, QuantizedGraph, RangeKind, Weight
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.providers import cause
from vit_edge.runtime.session.session import feed_of
from vit_edge.spec import PreprocessSpec
from vit_edge.verify.words import sqnr_db

TENSORS_AT_ONCE = 16  # observed in one run: bounds the memory that a large model's activations take
SHOWN_BINS = 64
SHOWN_CHANNELS = 64

Values = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class ActivationRange:
    """One quantized activation as it was observed."""

    layer: str
    second: bool  # factor of the product
    kind: RangeKind
    range: tuple[float, float] | None  # that the integers can express; None where each run has its own
    seen: tuple[float, float]  # smallest and largest value
    clipped: float  # share of values beyond the range, 0 to 1
    sqnr_db: float  # signal to quantization noise of these values; infinite where they are exact
    row_reach: tuple[float, float]  # median and largest, over rows, of the largest magnitude in a row
    edges: tuple[float, float]  # of the histogram
    counts: tuple[int, ...]  # values per bin, bins of equal width between the edges

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; an infinite ratio is null."""
        raw = dataclasses.asdict(self)
        ratio = self.sqnr_db if math.isfinite(self.sqnr_db) else None
        return raw | {"kind": self.kind.value, "sqnr_db": ratio}


@dataclasses.dataclass(frozen=True)
class WeightRange:
    """One INT8 weight: how far its output channels reach."""

    layer: str
    channels: int
    reaches: tuple[float, ...]  # largest magnitude per channel, rising; at most SHOWN_CHANNELS


@dataclasses.dataclass(frozen=True)
class Ranges:
    """Of all products of one INT8 file, in graph order."""

    images: int  # observed
    activations: tuple[ActivationRange, ...]
    weights: tuple[WeightRange, ...]

    def worst(self, count: int) -> list[ActivationRange]:
        """The activations that lose most by being quantized."""
        return sorted(self.activations, key=lambda each: each.sqnr_db)[:count]

    def weight_of(self, layer: str) -> WeightRange | None:
        """The weight of a product, where it has one."""
        return next((weight for weight in self.weights if weight.layer == layer), None)


def observe_ranges(model: ModelFile, spec: PreprocessSpec, pixels: Pixels) -> Ranges:
    """Run an INT8 file on a few images and look at everything that it quantizes.

    Args:
        model: INT8.
        spec: its preprocessing.
        pixels: uint8 (N, H, W, 3), resized and cropped.

    Raises:
        ModelError: onnxruntime cannot run the file with its inner tensors as outputs, or one is not finite.
    """
    proto = onnx.load_model_from_string(model.data)
    graph = QuantizedGraph(proto)
    operands = graph.operands()
    tallies = [_Tally(operand) for operand in operands]
    if operands:
        session = _session(model, proto, _tensors(operands))
        for image in pixels:
            _observe_image(session, model, spec, image, tallies)
    return Ranges(
        images=len(pixels),
        activations=tuple(tally.result() for tally in tallies),
        weights=tuple(_weight_range(weight) for weight in graph.weights()),
    )


def _observe_image(
    session: onnxruntime.InferenceSession,
    model: ModelFile,
    spec: PreprocessSpec,
    image: Pixels,
    tallies: "Sequence[_Tally]",
) -> None:
    batch = np.repeat(image[None], model.batch or 1, axis=0)
    feed = feed_of(model, batch, spec)
    for start in range(0, len(tallies), TENSORS_AT_ONCE):
        group = tallies[start : start + TENSORS_AT_ONCE]
        names = _tensors([tally.operand for tally in group])
        try:
            found = dict(zip(names, session.run(names, feed), strict=True))
        except Exception as error:  # onnxruntime's exceptions share no base
            raise ModelError(f"{model.path} fails while it is observed ({cause(error)})") from error
        for tally in group:
            if not np.isfinite(found[tally.operand.values]).all():
                raise ModelError(
                    f"{model.path} computes values that are not finite before {tally.operand.layer}"
                )
            tally.add(found[tally.operand.values], found[tally.operand.coded])


def _tensors(operands: Sequence[Operand]) -> list[str]:
    return list(dict.fromkeys(name for each in operands for name in (each.values, each.coded)))


def _session(model: ModelFile, proto: onnx.ModelProto, names: Sequence[str]) -> onnxruntime.InferenceSession:
    present = {output.name for output in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    try:
        return cpu_session(proto.SerializeToString(), fused=False)
    except Exception as error:
        raise ModelError(f"{model.path} cannot be observed ({cause(error)})") from error


class _Tally:
    """What one operand was like so far."""

    def __init__(self, operand: Operand) -> None:
        self.operand = operand
        self.histogram: Histogram | None = None
        self.low, self.high = math.inf, -math.inf
        self.signal = self.noise = 0.0
        self.values = self.clipped = 0
        self.rows: list[Values] = []

    def add(self, values: Values, coded: Values) -> None:
        values = np.asarray(values, np.float32)
        rows = np.abs(values).reshape(-1, values.shape[-1] if values.ndim else 1).max(axis=1)
        histogram = Histogram.of(values)
        self.histogram = histogram if self.histogram is None else self.histogram.merged(histogram)
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        error, outside = _rounding(self.operand, np.asarray(coded, np.float32))
        if self.operand.kind is RangeKind.PER_TOKEN:
            peaks = np.abs(coded).reshape(rows.size, -1).max(axis=1)
            error = error.reshape(rows.size, -1) * (rows / np.maximum(peaks, 1e-12))[:, None]
        self.signal += float(np.square(values, dtype=np.float64).sum())
        self.noise += float(np.square(error, dtype=np.float64).sum())
        self.clipped += outside
        self.values += values.size
        self.rows.append(rows)

    def result(self) -> ActivationRange:
        operand, rows = self.operand, np.concatenate(self.rows)
        assert self.histogram is not None  # noqa: S101  there is at least one image
        edges, counts = _trimmed(self.histogram)
        span = operand.low * operand.scale, operand.high * operand.scale
        return ActivationRange(
            layer=operand.layer,
            second=operand.second,
            kind=operand.kind,
            range=span if operand.kind is RangeKind.STATIC else None,
            seen=(self.low, self.high),
            clipped=self.clipped / self.values,
            sqnr_db=sqnr_db(self.signal, self.noise),
            row_reach=(float(np.median(rows)), float(rows.max())),
            edges=edges,
            counts=counts,
        )


def _rounding(operand: Operand, values: Values) -> tuple[Values, int]:
    """The error of each value, and how many lie beyond the range by more than half a step."""
    scale, low, high = operand.scale, operand.low, operand.high
    if operand.kind is RangeKind.IMAGE:  # as ONNX defines DynamicQuantizeLinear
        given = Affine.of(float(values.min()), float(values.max()), as_stored=False)
        scale, low = given.scale, -given.zero_point
        high = low + 255
    steps = np.rint(values / np.float32(scale))
    outside = int(np.count_nonzero((steps < low) | (steps > high)))
    error: Values = np.clip(steps, low, high) * np.float32(scale) - values
    return error, outside


def _trimmed(histogram: Histogram) -> tuple[tuple[float, float], tuple[int, ...]]:
    """The filled part of a histogram in at most SHOWN_BINS bins."""
    filled = np.flatnonzero(histogram.counts)
    first, last = int(filled[0]), int(filled[-1]) + 1
    merge = math.ceil((last - first) / SHOWN_BINS)
    first -= first % merge  # zero stays an edge wherever it was one
    last += -(last - first) % merge
    counts = np.zeros(last - first, np.int64)
    part = histogram.counts[first : min(last, BINS)]
    counts[: part.size] = part
    edges = (first - BINS // 2) * histogram.width, (last - BINS // 2) * histogram.width
    return edges, tuple(map(int, counts.reshape(-1, merge).sum(axis=1)))


def _weight_range(weight: Weight) -> WeightRange:
    ordered = np.sort(weight.reaches)
    places = np.linspace(0, ordered.size - 1, min(ordered.size, SHOWN_CHANNELS)).round().astype(int)
    return WeightRange(weight.layer, int(ordered.size), tuple(float(ordered[place]) for place in places))
