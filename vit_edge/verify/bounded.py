"""Interval for the mean of bounded values that are no yes or no, and how many more would decide.

Waudby-Smith and Ramdas, as in `sequential`: it holds for any distribution between the bounds, at a fixed
number of images as well as after any number of looks.
"""

import math

import numpy as np
from numpy.typing import NDArray

from vit_edge.spec import Verdict
from vit_edge.verify.arrays import Floats
from vit_edge.verify.copies import Scenes
from vit_edge.verify.proportion import bisect, smallest_sample
from vit_edge.verify.sequential import wealths
from vit_edge.verify.verdict import Interval, verdict_of


def mean_interval(values: Floats, confidence: float, times: float = 1.0, least: float = -1.0) -> Interval:
    """Confidence interval for the mean of values from -1, or what else is the least possible, to 1.

    Args:
        values: (N,), of independent images.
        confidence: two-sided, such as 0.95.
        times: how often each value is counted, so that a plan can scale what was seen.
        least: no value can be smaller.

    Returns:
        (lower, upper), with the observed mean between them.
    """
    own = np.asarray(values, np.float64)
    mirror = 1.0 + least
    return mirror - _upper(mirror - own, confidence, times), _upper(own, confidence, times)


def per_scene(values: NDArray[np.float64], scenes: Scenes | None) -> NDArray[np.float64]:
    """The values of images that stand alone, and the means of those that belong together."""
    if scenes is None:
        return values
    alone = np.ones(len(values), np.bool_)
    for group in scenes.groups:
        alone[list(group)] = False
    means = [float(values[list(group)].mean()) for group in scenes.groups]
    return np.concatenate([values[alone], means])


def _upper(values: NDArray[np.float64], confidence: float, times: float) -> float:
    refused = math.log(2.0 / (1.0 - confidence))
    counts = np.full((1, len(values)), times)
    observed = float(values.mean())
    if observed >= 1.0:
        return 1.0
    return bisect(lambda mean: float(wealths(counts, values, mean)[0]) - refused, observed, 1.0)


def images_to_decide(values: Floats, limit: float, confidence: float, least: float = -1.0) -> int | None:
    """How many further images would decide, if they came out as those seen; None where a million would not.

    Args:
        values: (N,), as for `mean_interval`.
        limit: of their mean, in percent.
        confidence: two-sided.
        least: no value can be smaller.
    """

    def decides(images: int) -> bool:
        interval = mean_interval(values, confidence, images / len(values), least)
        return verdict_of(interval, limit) is not Verdict.UNDECIDED

    found = smallest_sample(decides, len(values))
    return None if found is None else found - len(values)
