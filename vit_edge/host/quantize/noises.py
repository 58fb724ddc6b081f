"""The noise that each form of each layer does alone: estimated for all at once, measured where that decides.

An estimate is as good as the outputs are linear in a layer's error, which is the worse the larger the error.
So the noisiest are measured one after the other until several in a row were estimated right, the linear
layers and the attentions each for themselves; of a model that no estimate fits, everything is measured. A
layer is also measured where it spoils whole rows of its own output, whatever the estimate says.
"""

import functools
import gc
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future

from vit_edge.host.operators import NoGradientError
from vit_edge.host.plan import QuantPlan
from vit_edge.host.quantize.cores import shared_cores
from vit_edge.host.quantize.estimate import Estimate, LayerForm, Noises, estimated
from vit_edge.host.quantize.plans import LayerPlans
from vit_edge.host.quantize.probe import Probe, decibels
from vit_edge.progress import Step
from vit_edge.runtime.device.machine import usable_cores

AGREE_DB = 1.5  # between an estimate and a measurement; the signs of the estimate alone make half a dB
AGREEING = 3  # measurements in a row that must agree
AT_ONCE = 2  # models measured, each with its share of the cores; more would take more memory
SPOILT = 0.1  # share of the power of a row of a layer's output that its error may have


def noises(plans: LayerPlans, probe: Probe, progress: Step) -> Noises:
    """The noise power over signal power of each form of each planned layer alone.

    Args:
        plans: of the layers concerned.
        probe: measures noise.
        progress: called with (done, count), once for each image and once for each layer.
    """
    kinds = [
        [(name, form) for name, forms in planned.items() for form in forms]
        for planned in (plans.linears, plans.attentions)
    ]
    count = len(probe.images) + sum(map(len, kinds))
    at_once = min(AT_ONCE, usable_cores())
    threads = max(1, usable_cores() // at_once)

    def tell(before: int, done: int) -> None:
        progress(before + done, count)

    def measure(which: LayerForm) -> float:
        name, form = which
        if name in plans.linears:
            return probe.noise(QuantPlan({name: plans.linears[name][form]}), threads)
        return probe.noise(QuantPlan(attentions={name: plans.attentions[name][form]}), threads)

    try:
        guess = estimated(
            probe.canonical,
            probe.settings,
            plans,
            probe.images,
            probe.weights,
            lambda done, _: progress(done, count),
        )
    except NoGradientError:
        guess = {}
    gc.collect()  # graphs hold themselves, and with them weights that the models to be measured need room for
    found: Noises = {}
    with shared_cores() as pool:
        for kind in kinds:
            told = functools.partial(tell, len(probe.images) + len(found))
            found |= refined(kind, guess, Ahead(measure, pool, at_once), told)
    progress(count, count)
    return found


class Ahead:
    """Measures one after the other, the next few meanwhile: what is found does not depend on how many.

    Args:
        measure: what one form of one layer really does.
        pool: whose threads measure.
        count: how many at a time.
    """

    def __init__(self, measure: Callable[[LayerForm], float], pool: Executor, count: int) -> None:
        self._measure, self._pool, self._count = measure, pool, count
        self._coming: dict[LayerForm, Future[float]] = {}

    def measured(self, queue: Sequence[LayerForm]) -> float:
        """Of the first of a queue; those behind it are begun, and may never be asked for."""
        for which in queue[: self._count]:
            if which not in self._coming:
                self._coming[which] = self._pool.submit(self._measure, which)
        return self._coming[queue[0]].result()


def refined(
    kind: Sequence[LayerForm],
    guess: dict[LayerForm, Estimate],
    ahead: Ahead,
    tell: Callable[[int], None],
) -> Noises:
    """Estimates where they hold, measurements elsewhere.

    Args:
        kind: forms of layers that are alike.
        guess: what was estimated; what it lacks is measured.
        ahead: measures what one form of one layer really does.
        tell: called with how many were measured.
    """
    found: Noises = {}
    agreed = 0
    loudest = sorted(kind, key=lambda which: -guess[which].noise if which in guess else 0.0)

    def holds(which: LayerForm) -> bool:
        return agreed >= AGREEING and which in guess and guess[which].spoilt < SPOILT

    for place, which in enumerate(loudest):
        estimate = guess.get(which)
        if estimate is not None and holds(which):
            found[which] = estimate.noise
            continue
        found[which] = ahead.measured([each for each in loudest[place:] if not holds(each)])
        tell(len(found))
        if estimate is not None and estimate.spoilt < SPOILT:
            right = abs(decibels(found[which]) - decibels(estimate.noise)) <= AGREE_DB
            agreed = agreed + 1 if right else 0
    return found
