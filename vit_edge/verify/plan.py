"""How many images would settle an open question, planned for a stated power.

The rates seen so far are themselves uncertain, most of all where few images were lost or gained, so a plan
that keeps them fixed decides in some 50 % of cases. Here they are drawn from what the images leave possible
(Jeffreys' prior), further images are drawn for each, and the plan is the number with which four in five of
those futures are decided: O'Hagan, Stevens and Campbell, Assurance in clinical trial design, Pharmaceutical
Statistics 4 (2005) 187-201.

There are two ways to go on. More images may be judged together with those seen; that is another look at the
same evidence, so intervals are used that hold however often one looks. Or a fresh set is judged by itself,
which needs no correction but forgets what was seen.
"""

from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from vit_edge.gate_report import Plan
from vit_edge.spec import Tolerance
from vit_edge.verify.arrays import Booleans
from vit_edge.verify.proportion import LARGEST_SAMPLE, beta_cdf_of
from vit_edge.verify.sequential import wealths
from vit_edge.verify.unconditional import SET_SHARE, Reals, statistic

POWER = 0.8
_FUTURES = 1000
_JEFFREYS = 0.5


Decides = Callable[[Reals, int], Booleans]  # of counts (R, K) among so many images


def plan_drop(lost: float, gained: float, n: float, tolerance: Tolerance, *, sequential: bool) -> Plan:
    """Labelled images that would decide about the drop in accuracy.

    Args:
        lost: images on which only the float model was right.
        gained: images on which only the quantized one was.
        n: all images.
        tolerance: what is accepted.
        sequential: a fresh set would be looked at until it decides, too.
    """
    limit = tolerance.max_drop / 100.0

    def fixed(counts: Reals, images: int) -> Booleans:
        # the exact test is this one but for steps, which matter little for a plan
        z = NormalDist().inv_cdf(1.0 - (1.0 - SET_SHARE) * (1.0 - tolerance.confidence) / 2.0)
        decided: Booleans = np.abs(statistic(counts[:, 0], counts[:, 1], images, limit)) >= z
        return decided

    def looking_on(counts: Reals, images: int) -> Booleans:
        values = np.array([1.0, -1.0, 0.0])
        times = np.column_stack([counts[:, :2], images - counts[:, 0] - counts[:, 1]])
        drop = (counts[:, 0] - counts[:, 1]) / images
        return _refused(times, values, limit, drop, tolerance.confidence)

    seen = np.array([lost, gained, max(n - lost - gained, 0.0)])
    return _plan(seen, looking_on if sequential else fixed, looking_on)


def plan_share(changed: float, n: float, tolerance: Tolerance, *, sequential: bool) -> Plan:
    """Unlabelled images that would decide about the share of changed predictions; see `plan_drop`."""
    limit = tolerance.max_changed / 100.0

    def fixed(counts: Reals, images: int) -> Booleans:
        tail = (1.0 - tolerance.confidence) / 2.0
        x = np.minimum(counts[:, 0], images - 1e-9)
        at = np.full_like(x, limit)
        few = 1.0 - beta_cdf_of(at, x + 1.0, images - x)  # P(X <= x)
        many = beta_cdf_of(at, np.maximum(x, 1e-9), images - x + 1.0)  # P(X >= x)
        decided: Booleans = (few <= tail) | (many < tail)
        return decided

    def looking_on(counts: Reals, images: int) -> Booleans:
        times = np.column_stack([counts[:, 0], images - counts[:, 0]])
        return _refused(times, np.array([1.0, 0.0]), limit, counts[:, 0] / images, tolerance.confidence)

    return _plan(np.array([changed, max(n - changed, 0.0)]), looking_on if sequential else fixed, looking_on)


def _plan(seen: Reals, fresh: Decides, together: Decides) -> Plan:
    """Args: counts of the outcomes, the last being "nothing changed", and both ways of deciding."""
    start = round(float(seen.sum()))
    rates = np.random.default_rng(0).dirichlet(seen + _JEFFREYS, _FUTURES)

    def drawn(images: int) -> Reals:
        return np.random.default_rng(images).multinomial(images, rates).astype(np.float64)

    return Plan(
        POWER,
        together=_smallest(lambda more: float(together(seen + drawn(more), start + more).mean()), start),
        fresh=_smallest(lambda images: float(fresh(drawn(images), images).mean()), start),
    )


def _smallest(power: Callable[[int], float], scale: int) -> int | None:
    """The smallest number of images with the power wanted, to about a hundredth of itself."""
    low, high = 0, max(scale // 8, 8)
    while power(high) < POWER:
        low, high = high, 2 * high
        if high > LARGEST_SAMPLE:
            return None
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


def _refused(times: Reals, values: Reals, mean: float, seen: Reals, confidence: float) -> Booleans:
    """Whether a confidence sequence refuses the mean, on the side on which what was seen does not lie."""
    level = np.log(2.0 / (1.0 - confidence))
    above = wealths(times, values, mean) >= level if mean < 1.0 else np.zeros(len(seen), bool)
    mirrored = 1.0 - values if values.min() >= 0.0 else -values
    below = wealths(times, mirrored, 1.0 - mean if values.min() >= 0.0 else -mean) >= level
    refused: Booleans = np.where(seen < mean, above, below)
    return refused
