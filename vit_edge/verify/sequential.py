"""Intervals that hold however often one looks, so that a run may stop as soon as they decide.

An interval for a fixed number of images is too narrow once its own verdict says when to stop. Here every
mean `m` stands for a game that is fair or worse as long as the true mean is at least `m`: after each image
with outcome x, at most 1, the wealth is multiplied by 1 + b (m - x). By Ville's inequality the wealth ever
reaches 2 / (1 - confidence) with a probability of at most (1 - confidence) / 2; the means for which it has
done so are refused, and their edge is the upper limit. The lower limit is that of the mirrored outcomes.

Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, Journal of the Royal
Statistical Society B 86 (2024) 1-27. The bets b are constant and their wealths averaged, as in Cover's
universal portfolio with the weight of Cover and Ordentlich (IEEE Trans. Inf. Theory 42, 1996), the arcsine
law, here at the Chebyshev nodes. The wealth depends on the counts of outcomes alone and not on their order.
"""

import math

import numpy as np
from numpy.typing import NDArray

from vit_edge.verify.proportion import bisect

_NODES = 32
# As shares of the largest bet, 1 / (1 - m), with which one outcome of 1 takes all.
_BETS = (1.0 + np.cos((np.arange(_NODES) + 0.5) * np.pi / _NODES)) / 2.0

Reals = NDArray[np.float64]
Outcomes = tuple[tuple[float, float], ...]  # (value of at most 1, how many images had it)


def drop_sequence(lost: float, gained: float, n: float, confidence: float) -> tuple[float, float]:
    """Confidence sequence for the drop in accuracy, as fractions.

    Args:
        lost: images on which only the float model was right; need not be whole, so that a plan can scale it.
        gained: images on which only the quantized one was.
        n: all images seen.
        confidence: two-sided, that the drop lies between the limits after every number of images at once.

    Returns:
        (lower, upper), each -1 to 1, with the observed drop between them.
    """
    same = n - lost - gained
    upper = _upper_limit(((1.0, lost), (-1.0, gained), (0.0, same)), confidence)
    return -_upper_limit(((1.0, gained), (-1.0, lost), (0.0, same)), confidence), upper


def share_sequence(successes: float, trials: float, confidence: float) -> tuple[float, float]:
    """Confidence sequence for a share of images; see `drop_sequence`.

    Returns:
        (lower, upper), each 0 to 1, with the observed share between them.
    """
    failures = trials - successes
    upper = _upper_limit(((1.0, successes), (0.0, failures)), confidence)
    return 1.0 - _upper_limit(((1.0, failures), (0.0, successes)), confidence), upper


def _upper_limit(outcomes: Outcomes, confidence: float) -> float:
    observed = sum(value * times for value, times in outcomes) / sum(times for _, times in outcomes)
    refused = math.log(2.0 / (1.0 - confidence))
    # At the observed mean no bet has won (Jensen), and the wealth grows with the mean from there.
    return bisect(lambda mean: log_wealth(outcomes, mean) - refused, observed, 1.0)


def log_wealth(outcomes: Outcomes, mean: float) -> float:
    """Logarithm of the mean wealth of all bets against "the mean is at least `mean`", which is below 1."""
    values, times = np.array(outcomes).T
    return float(wealths(times[None], values, mean)[0])


def wealths(times: Reals, values: Reals, mean: float) -> Reals:
    """`log_wealth` of many counts of the same outcomes.

    Args:
        times: (R, K) how many images had each outcome.
        values: (K,) of the outcomes, at most 1.
        mean: below 1.

    Returns:
        (R,) natural logarithms.
    """
    logs = times @ np.log1p(np.multiply.outer((mean - values) / (1.0 - mean), _BETS))
    highest = logs.max(axis=1, keepdims=True)
    found: Reals = highest[:, 0] + np.log(np.exp(logs - highest).mean(axis=1))
    return found
