"""Two models on the same images: what the discordant pairs say about the difference in accuracy.

Images on which both models are right, or both wrong, say nothing about which is better; an interval built
from the two accuracies as if they were independent is far too wide, and one built from the normal
approximation (Wald) collapses to zero width when no pair is discordant.
"""

import dataclasses
import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from vit_edge.errors import DatasetError, UsageError
from vit_edge.spec import Tolerance, Verdict
from vit_edge.verify.arrays import Booleans
from vit_edge.verify.proportion import beta_cdf, bisect, clopper_pearson, smallest_sample


@dataclasses.dataclass(frozen=True)
class PairedCounts:
    """The 2 x 2 table of paired outcomes, in images."""

    both_right: int
    only_float_right: int
    only_quant_right: int
    both_wrong: int

    def __post_init__(self) -> None:
        """Refuse counts that no set of images can have."""
        if min(dataclasses.astuple(self)) < 0:
            raise UsageError(f"paired counts cannot be negative, got {dataclasses.astuple(self)}")
        if self.n == 0:
            raise DatasetError("there are no paired outcomes to judge; give at least one labelled image")

    @property
    def n(self) -> int:
        """Number of images."""
        return self.both_right + self.only_float_right + self.only_quant_right + self.both_wrong

    @property
    def drop(self) -> float:
        """Accuracy of the float model less that of the quantized one, as a fraction."""
        return (self.only_float_right - self.only_quant_right) / self.n


def paired_counts(float_right: Booleans, quant_right: Booleans) -> PairedCounts:
    """Count the four outcomes.

    Args:
        float_right: (N,) bool, the float model's prediction was right.
        quant_right: (N,) bool, the same images in the same order.

    Raises:
        DatasetError: no image.
        UsageError: shapes that differ.
    """
    if float_right.shape != quant_right.shape or float_right.ndim != 1:
        raise UsageError(
            f"outcomes must be two arrays of one shape (N,), got {float_right.shape}, {quant_right.shape}"
        )
    return PairedCounts(
        both_right=int(np.count_nonzero(float_right & quant_right)),
        only_float_right=int(np.count_nonzero(float_right & ~quant_right)),
        only_quant_right=int(np.count_nonzero(~float_right & quant_right)),
        both_wrong=int(np.count_nonzero(~float_right & ~quant_right)),
    )


def drop_interval(counts: PairedCounts, confidence: float) -> tuple[float, float]:
    """Score interval for the drop in accuracy, as fractions.

    Tango, Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design, Statistics in Medicine 17 (1998) 891-908, equations 24 to 26: all drops that the score test does
    not reject. It keeps its coverage with few discordant images and has width with none.

    Args:
        counts: the paired outcomes.
        confidence: two-sided, such as 0.95.

    Returns:
        (lower, upper), each -1 to 1, with the observed drop between them.
    """
    return _score_interval(counts.only_float_right, counts.only_quant_right, counts.n, confidence)


def _score_interval(lost: float, gained: float, n: float, confidence: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
    # The mirrored table turns the lower limit into an upper one, so one root search serves both.
    return -_upper_limit(gained, lost, n, z), _upper_limit(lost, gained, n, z)


def _upper_limit(lost: float, gained: float, n: float, z: float) -> float:
    observed = (lost - gained) / n
    if observed >= 1.0:
        return 1.0

    def excess(drop: float) -> float:
        # The score test rejects where this is positive; the variance stays out of the denominator, because
        # it is zero at the observed drop when no pair is discordant.
        variance = 2.0 * _restricted_gain(lost, gained, n, drop) + drop * (1.0 - drop)
        return n * (drop - observed) - z * math.sqrt(n * max(variance, 0.0))

    return bisect(excess, observed, 1.0)


def _restricted_gain(lost: float, gained: float, n: float, drop: float) -> float:
    """Most likely probability of "only quant right" given the drop: root of a q^2 + b q + c."""
    a = 2.0 * n
    b = (2.0 * n - lost + gained) * drop - lost - gained
    c = -gained * drop * (1.0 - drop)
    root = math.sqrt(max(b * b - 4.0 * a * c, 0.0))
    # The form that adds two numbers of one sign: the other would cancel.
    if b > 0.0:
        return -2.0 * c / (b + root)
    return (root - b) / (2.0 * a)


def mcnemar_exact(counts: PairedCounts) -> float:
    """Two-sided exact McNemar test of "no difference in accuracy": p-value from Binomial(discordant, 1/2).

    McNemar, Psychometrika 12 (1947) 153-157, with the exact tail in place of chi-squared.
    """
    fewer = min(counts.only_float_right, counts.only_quant_right)
    discordant = counts.only_float_right + counts.only_quant_right
    if 2 * fewer >= discordant:
        return 1.0
    return min(1.0, 2.0 * beta_cdf(0.5, discordant - fewer, fewer + 1.0))


def verdict_of(interval: tuple[float, float], tolerance: Tolerance) -> Verdict:
    """PASS if all of the interval is tolerated, FAIL if none of it is, else UNDECIDED.

    Args:
        interval: (lower, upper) as fractions.
        tolerance: what is accepted, in points.
    """
    lower, upper = interval
    if 100.0 * upper <= tolerance.max_drop:
        return Verdict.PASS
    return Verdict.FAIL if 100.0 * lower > tolerance.max_drop else Verdict.UNDECIDED


def images_needed(counts: PairedCounts, tolerance: Tolerance) -> int | None:
    """How many further labelled images would decide, if they behaved as those seen so far.

    The observed rates are kept and the interval is recomputed for ever more images. With few discordant
    images the rates themselves are uncertain, so this is a plan and not a promise.

    Returns:
        0 where the images seen decide already; None where no number would, as the observed drop is
        (nearly) the tolerated one.
    """

    def decides(images: int) -> bool:
        scale = images / counts.n
        lost, gained = counts.only_float_right * scale, counts.only_quant_right * scale
        interval = _score_interval(lost, gained, images, tolerance.confidence)
        return verdict_of(interval, tolerance) is not Verdict.UNDECIDED

    return _further_images(decides, counts.n)


def images_needed_unlabelled(disagreeing: int, n: int, tolerance: Tolerance) -> int | None:
    """How many further unlabelled images would decide, if they disagreed as often as those seen so far.

    Returns:
        0 where the images seen decide already; None where no number would.
    """

    def decides(images: int) -> bool:
        interval = clopper_pearson(disagreeing * images / n, images, tolerance.confidence)
        return verdict_of(interval, tolerance) is not Verdict.UNDECIDED

    return _further_images(decides, n)


def _further_images(decides: Callable[[int], bool], n: int) -> int | None:
    if decides(n):
        return 0
    total = smallest_sample(decides, n)
    return None if total is None else total - n
