"""From cycles to a predicted ratio and latency, with an error band that the published measurements give.

The ratio of INT8 to float needs nothing fitted: what the model leaves out (caches, memory, frequency) is
taken to slow both alike, and how wrong that is, is the deviation of predicted from measured ratios. The
band is the largest of them among measurements with one thread, whatever the core. A latency needs one
factor per core, how much of the modelled speed a board reaches, fitted on one measurement and tried on the
others.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from tools.arm_prediction.public import Measured
from vit_edge.errors import UsageError

FITTED = "ResNet-18"  # in float, one thread: the first row of each core
Cycles = Mapping[tuple[str, str, bool], float]  # (core, network, INT8) -> cycles of one inference, one thread


@dataclasses.dataclass(frozen=True)
class Compared:
    """A prediction beside a measurement."""

    measured: Measured
    ratio: float
    """Predicted: INT8 latency against float."""
    float_ms: float
    """Predicted, as if nothing but the pipelines took time, work dealt evenly to the threads, if stated."""
    int8_ms: float

    @property
    def measured_ratio(self) -> float:
        """INT8 latency against float."""
        return self.measured.int8_ms / self.measured.float_ms

    @property
    def deviation(self) -> float:
        """Predicted ratio against the measured one."""
        return self.ratio / self.measured_ratio


@dataclasses.dataclass(frozen=True)
class Band:
    """Factors around a prediction, 1 or more."""

    ratio: float
    latency: float


def compare(rows: Sequence[Measured], cycles: Cycles) -> tuple[Compared, ...]:
    """Every measurement beside its prediction.

    Raises:
        UsageError: a network was not counted.
    """
    found = []
    for row in rows:
        core = row.pipeline.core.name
        try:
            spent = [cycles[core, row.network, int8] for int8 in (False, True)]
        except KeyError:
            raise UsageError(
                f"{row.network} was not counted on {core}; run the command without --model"
            ) from None
        float_ms, int8_ms = (each / row.gigahertz / 1e6 / (row.threads or 1) for each in spent)
        found.append(Compared(row, int8_ms / float_ms, float_ms, int8_ms))
    return tuple(found)


def efficiency(compared: Sequence[Compared], core: str) -> float:
    """How much of the modelled speed a core reaches, from the one measurement that is fitted.

    Raises:
        UsageError: there is no such measurement.
    """
    for each in compared:
        row = each.measured
        if (row.pipeline.core.name, row.network, row.threads) == (core, FITTED, 1):
            return each.float_ms / row.float_ms
    raise UsageError(f"no measurement of {FITTED} with one thread on {core}, which the model is fitted on")


def band(compared: Sequence[Compared], threads: int = 1) -> Band:
    """The largest deviations among the measurements with so many threads; the fitted latencies count as well.

    Raises:
        UsageError: there is none.
    """
    alike = [each for each in compared if each.measured.threads == threads]
    if not alike:
        raise UsageError(f"no published measurement with {threads} threads")
    cores = {each.measured.pipeline.core.name for each in compared}
    reached = {core: efficiency(compared, core) for core in cores}
    latencies = []
    for each in alike:
        share = reached[each.measured.pipeline.core.name]
        latencies.append(each.float_ms / share / each.measured.float_ms)
        latencies.append(each.int8_ms / share / each.measured.int8_ms)
    return Band(_furthest(each.deviation for each in alike), _furthest(latencies))


def _furthest(factors: Iterable[float]) -> float:
    return math.exp(max(abs(math.log(factor)) for factor in factors))
