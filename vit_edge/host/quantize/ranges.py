"""Ranges of activations, scored by the error they cause in the output of the layer that reads them."""

import functools
from collections.abc import Callable

import numpy as np

from vit_edge.arrays import Array, Float32
from vit_edge.host.affine import Affine, limits
from vit_edge.host.plan import RowRange
from vit_edge.host.quantize.histogram import Histogram
from vit_edge.host.quantize.tally import Activation

SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7)
PERCENTILES = (0.999, 0.9999, 0.99999)  # kept on either side
LEVELS = 255
CACHED = 2**16  # numbers that are rounded at a time
ONE_SIDED_ROOM = 4.0  # how many times its floor below zero a row must reach above it to be called one-sided


def search_static(activation: Activation, weight: Array) -> tuple[Affine, str]:
    """The range whose rounding and clipping disturb the layer's output least, on the sampled rows.

    The whole range, percentiles, entropy and least squares compete, and the whole range with both ends drawn
    in separately, the upper one first.

    Returns:
        The range, and the method that it came from.
    """
    sample = activation.sample.astype(np.float32)
    low, high = float(activation.low.min()), float(activation.high.max())
    power = _output_power(weight.astype(np.float32))
    error = np.empty_like(sample)

    @functools.cache
    def noise(reach: Affine) -> float:
        _rounding_error(sample, reach, error)
        return power(error)

    best_high = min(SHRINKS, key=lambda shrink: noise(Affine.of(low, high * shrink)))
    best_low = min(SHRINKS, key=lambda shrink: noise(Affine.of(low * shrink, high * best_high)))
    candidates = statistical_ranges(activation.histogram, low, high)
    candidates["output error"] = Affine.of(low * best_low, high * best_high)
    method = min(candidates, key=lambda name: noise(candidates[name]))
    return candidates[method], method


def _rounding_error(values: Float32, reach: Affine, out: Float32) -> None:
    """What the way to codes and back adds, written into `out`, a few rows at a time."""
    low, high = (bound - reach.zero_point for bound in limits(reach.dtype))
    rows, scale = max(1, CACHED // values.shape[1]), np.float32(reach.scale)
    for start in range(0, len(values), rows):
        part, made = values[start : start + rows], out[start : start + rows]
        np.divide(part, scale, out=made)
        np.rint(made, out=made)
        np.clip(made, low, high, out=made)
        np.multiply(made, scale, out=made)
        np.subtract(made, part, out=made)


def _output_power(weight: Float32) -> Callable[[Float32], float]:
    """The summed squares of errors (rows, in) times a weight (in, out), the cheaper of two ways."""
    inputs, outputs = weight.shape
    if outputs <= inputs:
        return lambda errors: float(np.square(errors @ weight, dtype=np.float64).sum())
    gram = (weight @ weight.T).astype(np.float64)  # |e W|^2 = tr(e^T e W W^T)
    return lambda errors: float(np.vdot((errors.T @ errors).astype(np.float64), gram))


def statistical_ranges(histogram: Histogram, low: float, high: float) -> dict[str, Affine]:
    """The range of each method that looks at the activation alone; none reaches beyond [low, high]."""
    magnitude = histogram.entropy()
    ends = {"min-max": (low, high), "entropy": (-magnitude, magnitude)}
    ends |= {f"percentile {100 * share:.6g}": histogram.percentile(share) for share in PERCENTILES}
    ends["least squares"] = histogram.least_squares(min(low, 0.0), max(high, 0.0))
    return {method: Affine.of(max(a, low), min(b, high)) for method, (a, b) in ends.items()}


def row_range(activation: Activation) -> RowRange:
    """A range per row; one-sided where rows reach much further above zero than anything falls below it."""
    below = max(0.0, -float(activation.low.min()))
    peaks: Float32 = activation.sample.max(axis=1)
    if below * ONE_SIDED_ROOM > float(np.median(peaks)):
        return RowRange()
    low = 1.0 / ONE_SIDED_ROOM if below else 0.0
    return RowRange(low, one_sided=True, floor=max(below * ONE_SIDED_ROOM, 1e-12))


def probability_scale(activation: Activation) -> float:
    """The uint8 scale of attention probabilities that loses least: few are near 1, most are far below."""
    sample = activation.sample.astype(np.float32)
    candidates = [2.0 ** (-half / 2) / LEVELS for half in range(17)]

    def noise(scale: float) -> float:
        return float(np.square(Affine(scale).rounded(sample) - sample, dtype=np.float64).sum())

    return float(np.float32(min(candidates, key=noise)))
