"""Interval for the 1 % quantile: what all but one image in a hundred reach."""

import numpy as np
from numpy.typing import NDArray

from vit_edge.verify.proportion import clopper_pearson
from vit_edge.verify.verdict import Interval

Reals = NDArray[np.float64]

TAIL = 0.01  # share of images that may lie below


def quantile_interval(values: Reals, confidence: float) -> Interval:
    """Confidence interval for the 1 % quantile, by order statistics; an end that is not known is -1 or 1.

    It holds for any distribution: a quantile lies within it if the interval of Clopper and Pearson does not
    refuse its share of values below. Fewer than 368 values know no lower end at 95 %.

    Args:
        values: (N,) cosines of independent images.
        confidence: two-sided.
    """
    ordered, count = np.sort(values), len(values)
    low, high = -1.0, 1.0
    for below in range(count + 1):
        lower, upper = clopper_pearson(below, count, confidence)
        if upper <= TAIL:
            low = float(ordered[below])
        if lower > TAIL:
            high = float(ordered[below - 1])
            break
    return low, high
