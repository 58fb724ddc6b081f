"""A histogram of fixed size whose range doubles, and the ranges that are read from it.

The bins cover [-2^e, 2^e) evenly and zero is an edge. Doubling the range merges bins in pairs, so no count is
ever approximate: the histogram depends on the values alone, not on their order or how they were divided.
"""

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from vit_edge.arrays import Float32, Float64

Counts = npt.NDArray[np.int64]

BINS = 2048
AT_ONCE = 2**15  # values counted at a time: what is in between stays in the cache
SMALLEST = -100  # exponent of the range of values that are all zero
LEVELS = 255  # steps of uint8
ENTROPY_LEVELS = 128  # of a magnitude, as TensorRT has it
MSE_SHRINKS = np.linspace(0.3, 1.0, 15)


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Counts of values in BINS bins of equal width over [-2^exponent, 2^exponent)."""

    exponent: int
    counts: Counts  # (BINS,)

    @classmethod
    def of(cls, values: Float32) -> "Histogram":
        """The narrowest that holds finite values of any shape.

        Raises:
            ValueError: a value is not finite.
        """
        largest = max(float(values.max(initial=0.0)), -float(values.min(initial=0.0)))  # NaN stays NaN
        if not math.isfinite(largest):
            raise ValueError("a value is not finite")
        exponent = max(math.frexp(largest)[1], SMALLEST) if largest else SMALLEST  # largest < 2^exponent
        per_bin = math.ldexp(1.0, BINS.bit_length() - 2 - exponent)  # a power of two: products are exact
        counts, flat = np.zeros(BINS, np.int64), values.reshape(-1)
        for start in range(0, flat.size, AT_ONCE):
            part = flat[start : start + AT_ONCE].astype(
                np.float64
            )  # float32 would lose the sign of tiny values
            part *= per_bin
            places = np.floor(part, out=part).astype(np.int64)
            places += BINS // 2
            counts += np.bincount(places, minlength=BINS)
        return cls(exponent, counts)

    def widened(self, exponent: int) -> "Histogram":
        """The same values over [-2^exponent, 2^exponent), exponent no less than now."""
        counts = self.counts
        for _ in range(exponent - self.exponent):
            inner = counts.reshape(-1, 2).sum(axis=1)
            counts = np.pad(inner, BINS // 4)
        return Histogram(exponent, counts)

    def merged(self, other: "Histogram") -> "Histogram":
        """Of the values of both."""
        exponent = max(self.exponent, other.exponent)
        return Histogram(exponent, self.widened(exponent).counts + other.widened(exponent).counts)

    @property
    def width(self) -> float:
        """Of one bin."""
        return math.ldexp(1.0, self.exponent + 2 - BINS.bit_length())

    @property
    def centres(self) -> Float64:
        """Of the bins, (BINS,)."""
        centres: Float64 = (np.arange(BINS) - BINS // 2 + 0.5) * np.float64(self.width)
        return centres

    def percentile(self, share: float) -> tuple[float, float]:
        """The range beyond whose ends at most 1 - share of the values lie on either side, to a bin."""
        allowed = (1.0 - share) * float(self.counts.sum())
        first = int(np.searchsorted(np.cumsum(self.counts), allowed, side="right"))
        last = int(np.searchsorted(np.cumsum(self.counts[::-1]), allowed, side="right"))
        low, high = (first - BINS // 2) * self.width, (BINS // 2 - last) * self.width
        return min(low, 0.0), max(high, 0.0)

    def entropy(self) -> float:
        """The magnitude to clip at so that 128 levels tell most of the distribution.

        Least Kullback-Leibler divergence between the clipped distribution of |x| and its quantized form
        (Migacz, "8-bit Inference with TensorRT", GTC 2017).
        """
        magnitudes = self.counts[BINS // 2 :] + self.counts[: BINS // 2][::-1]
        filled = int(np.flatnonzero(magnitudes).max(initial=0)) + 1
        lengths = range(min(ENTROPY_LEVELS, filled), filled + 1)
        best = min(lengths, key=lambda length: _divergence(magnitudes, length))
        return best * self.width

    def least_squares(self, low: float, high: float) -> tuple[float, float]:
        """[low, high] with its ends drawn in so that the values themselves suffer the least squared error."""
        filled = np.flatnonzero(self.counts)
        centres, weights = self.centres[filled], self.counts[filled]
        best, least = (low, high), math.inf
        for high_shrink in MSE_SHRINKS:
            for low_shrink in MSE_SHRINKS if low < 0 else MSE_SHRINKS[-1:]:
                ends = low * low_shrink, high * high_shrink
                step = max((ends[1] - ends[0]) / LEVELS, 1e-30)
                coded = np.rint(np.clip(centres, *ends) / step) * step
                error = float((weights * np.square(coded - centres)).sum())
                if error < least:
                    best, least = (float(ends[0]), float(ends[1])), error
        return best


def _divergence(magnitudes: Counts, length: int) -> float:
    """KL divergence of the first `length` bins, the rest clipped into the last, from its 128 levels."""
    kept = magnitudes[:length].astype(np.float64)
    reference = kept.copy()
    reference[-1] += magnitudes[length:].sum()
    edges = np.arange(ENTROPY_LEVELS) * length // ENTROPY_LEVELS
    if length < ENTROPY_LEVELS:
        edges = np.unique(edges)
    present = kept > 0
    sums, filled = np.add.reduceat(kept, edges), np.add.reduceat(present.astype(np.float64), edges)
    level = np.repeat(sums / np.maximum(filled, 1.0), np.diff(edges, append=length))
    coded = np.where(present, level, 0.0)
    total = coded.sum()
    if total == 0.0:
        return math.inf
    p, q = reference / reference.sum(), coded / total
    used = p > 0
    return float((p[used] * np.log(p[used] / np.maximum(q[used], 1e-12))).sum())
