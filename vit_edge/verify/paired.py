"""Two models on the same images: what the discordant pairs say about the difference in accuracy.

Images on which both models are right, or both wrong, say nothing about which is better; an interval built
from the two accuracies as if they were independent is far too wide, and one built from the normal
approximation (Wald) collapses to zero width when no pair is discordant.
"""

import dataclasses
import math
from statistics import NormalDist

import numpy as np

from vit_edge.errors import DatasetError, UsageError
from vit_edge.verify.arrays import Booleans
from vit_edge.verify.proportion import beta_cdf, bisect


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


def score_interval(lost: float, gained: float, n: float, confidence: float) -> tuple[float, float]:
    """Score interval for the drop in accuracy, as fractions.

    Tango, Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design, Statistics in Medicine 17 (1998) 891-908, equations 24 to 26: all drops that the score test does
    not reject. It keeps its coverage with few discordant images and has width with none.

    Args:
        lost: images on which only the float model was right; need not be whole, so that a plan can scale it.
        gained: images on which only the quantized one was.
        n: all images.
        confidence: two-sided, such as 0.95.

    Returns:
        (lower, upper), each -1 to 1, with the observed drop between them.
    """
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


def mcnemar_one_sided(lost: float, gained: float) -> float:
    """Exact McNemar test of "no accuracy was lost": the p-value.

    McNemar, Psychometrika 12 (1947) 153-157, with the exact tail of Binomial(lost + gained, 1/2) in place of
    chi-squared.
    """
    return beta_cdf(0.5, lost, gained + 1.0) if lost else 1.0


def mcnemar_exact(lost: float, gained: float) -> float:
    """Two-sided exact McNemar test of "no difference in accuracy": twice the smaller tail, at most 1."""
    return min(1.0, 2.0 * min(mcnemar_one_sided(lost, gained), mcnemar_one_sided(gained, lost)))
