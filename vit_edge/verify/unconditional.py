"""An interval for a paired drop whose two one-sided errors each hold: an exact unconditional test, inverted.

The score test of Tango 1998 takes the normal distribution for its statistic. Where images are few and hardly
any is gained, the statistic is skewed and moves in steps: its lower limit then lies above the true drop in up
to 5.2 % of cases instead of 2.5 %. Here the statistic is kept, because it orders outcomes well, and its
distribution is computed: the counts of images lost and gained are trinomial with the drop in question and one
nuisance parameter, the probability of a gain, over which the tail is maximised.

Maximising over everything would pay for probabilities of a gain that the data exclude. After Berger and Boos
(P values maximized over a confidence set for the nuisance parameter, Journal of the American Statistical
Association 89, 1994, 1012-1016) it is maximised over an exact confidence set, whose own error is added; for
this statistic: Sidik, Exact unconditional tests for testing non-inferiority in matched-pairs design,
Statistics in Medicine 22 (2003) 265-278.
"""

import functools
import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from vit_edge.verify.paired import score_interval
from vit_edge.verify.proportion import beta_cdf_of, clopper_pearson

Reals = NDArray[np.float64]

SET_SHARE = 0.02  # of the error, spent on the confidence set
_GRID = (24, 8)  # probabilities of a gain that are tried: of few discordant images, and of many
_MANY = 400
_NORMAL_FROM = 20_000  # discordant images from which the normal distribution is exact enough
_REACH = 7.5  # standard deviations beyond which outcomes are left out: less than 1e-13
_RESOLUTION = 5e-4  # of the interval's half-width
_STEPS = 20
_NORMAL = NormalDist()


@functools.lru_cache(maxsize=4096)
def exact_interval(lost: float, gained: float, n: float, confidence: float) -> tuple[float, float]:
    """Exact unconditional interval for the drop in accuracy, as fractions; see the module's docstring.

    Args:
        lost: images on which only the float model was right; need not be whole, as a scene of several images
            counts as one.
        gained: images on which only the quantized one was.
        n: all images; rounded to a whole number.
        confidence: two-sided, such as 0.95; each limit errs with at most half of the rest.

    Returns:
        (lower, upper), each -1 to 1, with the observed drop between them.
    """
    if lost + gained > _NORMAL_FROM:
        return score_interval(lost, gained, n, confidence)
    size, alpha = max(round(n), math.ceil(lost + gained), 1), (1.0 - confidence) / 2.0
    return _lower_limit(lost, gained, size, alpha), -_lower_limit(gained, lost, size, alpha)


def p_value(lost: float, gained: float, n: int, drop: float, set_error: float) -> float:
    """Of the test of "the drop is at most `drop`" against "it is larger".

    Args:
        lost: as in `exact_interval`.
        gained: likewise.
        n: all images.
        drop: a fraction, above -1 and below 1.
        set_error: of the confidence set for the probability of a gain; it is part of the result.
    """
    low, high = clopper_pearson(lost + gained, n, 1.0 - set_error)  # of all discordant images
    gains = _gains(max(low, abs(drop)), min(high, 1.0), drop, _GRID[int(lost + gained > _MANY)])
    if gains.size == 0:
        return set_error  # no probability of a gain in the set goes with this drop
    span = _REACH * np.sqrt(n * gains * (1.0 - gains)) + _REACH
    first = max(0, math.floor(float((n * gains - span).min())))
    last = min(n, math.ceil(float((n * gains + span).max())))
    some = np.arange(first, last + 1, dtype=np.float64)
    least = _boundary(some, n, drop, float(statistic(np.asarray(lost), np.asarray(gained), n, drop)))
    of_gain = _binomial(some, n, gains[:, None])
    conditional = np.clip((gains + drop) / np.maximum(1.0 - gains, 1e-300), 0.0, 1.0)[:, None]
    tails = (of_gain * _binomial_tail(least, n - some, conditional)).sum(axis=1)
    return min(1.0, float(tails.max()) + set_error)


def statistic(lost: Reals, gained: Reals, n: float, drop: float) -> Reals:
    """Tango's score statistic of counts against a drop: large where more was lost than that."""
    a = 2.0 * n
    b = (2.0 * n - lost + gained) * drop - lost - gained
    c = -gained * drop * (1.0 - drop)
    root = np.sqrt(np.maximum(b * b - 4.0 * a * c, 0.0))
    divisor = np.where(b > 0.0, b + root, 1.0)
    gain = np.where(b > 0.0, -2.0 * c / divisor, (root - b) / (2.0 * a))
    deviation = np.sqrt(n * np.maximum(2.0 * gain + drop * (1.0 - drop), 0.0))
    excess = lost - gained - n * drop
    # without a discordant image and against no drop at all, both are zero
    return np.where(deviation > 0.0, excess / np.where(deviation > 0.0, deviation, 1.0), 0.0)


def _lower_limit(lost: float, gained: float, n: int, alpha: float) -> float:
    """The largest drop found that the test rejects as too small."""
    observed = (lost - gained) / n
    if observed <= -1.0:
        return -1.0
    set_error = SET_SHARE * alpha

    def excess(drop: float) -> float:
        """At most 0 where the drop is rejected; in standard deviations nearly a straight line."""
        p = p_value(lost, gained, n, drop, set_error)
        return _NORMAL.inv_cdf(min(max(p, 1e-12), 1.0 - 1e-12)) - _NORMAL.inv_cdf(alpha)

    score = score_interval(lost, gained, n, 1.0 - 2.0 * alpha)[0]
    width = max(observed - score, 1e-12)
    low, high = max(-1.0, score - 0.25 * width), min(score + 0.25 * width, observed)
    at_low, at_high = (excess(each) if each > -1.0 else -1.0 for each in (low, high))
    while low > -1.0 and at_low > 0.0:
        low, high, at_high = max(-1.0, low - width), low, at_low
        at_low = excess(low) if low > -1.0 else -1.0
    if at_high <= 0.0:
        low, at_low, high, at_high = high, at_high, observed, 1.0
    for step in range(_STEPS):
        if high - low <= _RESOLUTION * width:
            break
        # to either side of where the line crosses zero, in turn, so that both ends come near
        guess = (
            low + (high - low) * at_low / (at_low - at_high) + (step % 2 - 0.5) * _RESOLUTION * width / 2.0
        )
        guess = min(max(guess, low + 0.05 * (high - low)), high - 0.05 * (high - low))
        found = excess(guess)
        if found <= 0.0:
            low, at_low = guess, found
        else:
            high, at_high = guess, found
    return low


def _gains(low: float, high: float, drop: float, count: int) -> Reals:
    """Probabilities of a gain for discordances from `low` to `high`, evenly spread on the scale of roots."""
    if low > high:
        return np.empty(0)
    first, last = (math.sqrt(max((each - drop) / 2.0, 0.0)) for each in (low, high))
    roots: Reals = np.linspace(first, last, count)
    return roots**2


def _boundary(gained: Reals, n: int, drop: float, reached: float) -> Reals:
    """Of each number gained, the least number lost with which the statistic is at least `reached`."""
    low, high = np.full(gained.shape, -1.0), n - gained + 1.0
    slack = 1e-9 * max(1.0, abs(reached))  # outcomes tied with the observed one count as reaching it
    while np.any(high - low > 1.0):
        middle = np.floor((low + high) / 2.0)
        reaches = statistic(middle, gained, n, drop) >= reached - slack
        low, high = np.where(reaches, low, middle), np.where(reaches, middle, high)
    return high


def _binomial_tail(least: Reals, trials: Reals, probability: Reals) -> Reals:
    """P(X >= least) of binomial X."""
    inside = np.broadcast_to(
        (least > 0) & (least <= trials), np.broadcast_shapes(least.shape, probability.shape)
    )
    tail = np.broadcast_to(np.where(least <= 0, 1.0, 0.0), inside.shape).copy()
    first = np.broadcast_to(least, inside.shape)[inside]
    rest = np.broadcast_to(trials - least + 1.0, inside.shape)[inside]
    tail[inside] = beta_cdf_of(np.broadcast_to(probability, inside.shape)[inside], first, rest)
    return tail


def _binomial(successes: Reals, trials: int, probability: Reals) -> Reals:
    """Probabilities of numbers of successes."""
    factorial = _log_factorials(trials)
    whole = successes.astype(np.intp)
    choices = factorial[trials] - factorial[whole] - factorial[trials - whole]
    safe = np.clip(probability, 1e-300, 1.0 - 1e-16)
    chances: Reals = np.exp(choices + successes * np.log(safe) + (trials - successes) * np.log1p(-safe))
    return chances


@functools.lru_cache(maxsize=8)
def _log_factorials(most: int) -> Reals:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1)))])
