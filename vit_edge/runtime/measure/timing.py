"""Latency of several models side by side, so that what slows the machine for a while slows all of them."""

import contextlib
import dataclasses
import gc
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vit_edge.errors import UsageError
from vit_edge.verify import words
from vit_edge.verify.proportion import clopper_pearson

_GLANCE = 0.008  # seconds; longer than a thread has to wait for a core that it shares
_LONGEST_REST = 0.3  # seconds

CONFIDENCE = 0.95  # that the interval of a ratio holds its median
WARM_UP_RUNS = 3  # the first allocates, the second reuses, the third confirms
Milliseconds = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Rounds:
    """When to stop: after both so many rounds and so much time, or after ten thousand rounds."""

    at_least: int = 30
    seconds: float = 3.0

    def __post_init__(self) -> None:
        """Refuse a number of rounds from which no figure follows."""
        if not 1 <= self.at_least <= 10_000:
            raise UsageError(f"rounds must be 1 to 10000, got {self.at_least}")
        if not 0 <= self.seconds <= 3600:
            raise UsageError(f"seconds must be 0 to 3600, got {self.seconds}")


@dataclasses.dataclass(frozen=True)
class Latency:
    """One model's latencies over all rounds, in ms per run."""

    min_ms: float
    median_ms: float
    p95_ms: float


@dataclasses.dataclass(frozen=True)
class Ratio:
    """One model's latency in units of the first one's: quartiles over rounds of the ratio within a round."""

    median: float
    quartiles: tuple[float, float]
    interval: tuple[float, float] | None
    """95 % interval of the median; None where there are too few rounds for one."""

    def __str__(self) -> str:
        """The median and its interval."""
        return ratio_text(self.median, self.interval)


def time_interleaved(
    runs: Sequence[Callable[[], object]], rounds: Rounds, clock: Callable[[], float] = time.perf_counter
) -> Milliseconds:
    """Time every run once per round, the order rotated from round to round.

    Before each timed run the same one goes once untimed: the caches then hold its weights, and its worker
    threads spin, as they do in steady use. Before that, the worker threads of the model before it come to
    rest: onnxruntime lets them spin for some 40 ms, in which they would take a core from the next model's.
    Garbage collection is off throughout.

    Args:
        runs: what to time.
        rounds: when to stop.
        clock: seconds, rising.

    Returns:
        (rounds, len(runs)) float64, ms.
    """
    rests = False
    for run in runs:
        for _ in range(WARM_UP_RUNS):
            run()
            rests |= len(runs) > 1 and _others_work()
    table: list[list[float]] = []
    with _collection_off():
        started = clock()
        while len(table) < rounds.at_least or (clock() - started < rounds.seconds and len(table) < 10_000):
            row = [0.0] * len(runs)
            for turn in range(len(runs)):
                rests = rests and _come_to_rest()
                index = (turn + len(table)) % len(runs)
                row[index] = _timed(runs[index], clock)
            table.append(row)
    return np.asarray(table, dtype=np.float64)


def latency(times: Milliseconds) -> Latency:
    """Smallest, middle and 95th percentile of one model's times.

    Args:
        times: (rounds,) float64, ms.
    """
    return Latency(float(times.min()), float(np.median(times)), float(np.percentile(times, 95)))


def ratios_to_first(times: Milliseconds) -> list[Ratio]:
    """Each model against the first, compared within rounds and not between averages.

    Args:
        times: (rounds, models) float64, ms.

    Returns:
        One per model; the first is 1.
    """
    ratios = times / times[:, :1]
    return [
        Ratio(float(middle), (float(low), float(high)), median_interval(column))
        for column, (low, middle, high) in zip(
            ratios.T, np.percentile(ratios, [25, 50, 75], axis=0).T, strict=True
        )
    ]


def median_interval(values: Milliseconds) -> tuple[float, float] | None:
    """Interval of a median, from the sign test alone: its end lies below 1 where that test says "faster".

    Args:
        values: (N,) float64, independent.

    Returns:
        Two of the values, with the median between them at CONFIDENCE; None below six values, as even the
        smallest and the largest do not reach that.
    """
    count = len(values)
    enough = (wins for wins in range(count // 2, count + 1) if exceeds_half(wins, count))
    needed = next(enough, None)
    if needed is None:
        return None
    ordered = np.sort(values)
    return float(ordered[count - needed]), float(ordered[needed - 1])


def exceeds_half(wins: int, count: int) -> bool:
    """Whether more than half of all rounds are won, and not by chance (sign test at CONFIDENCE)."""
    return clopper_pearson(wins, count, CONFIDENCE)[0] > 0.5


def ratio_text(median: float, interval: tuple[float, float] | None) -> str:
    """`0.78 (0.61 to 1.02)`; the median alone where it has no interval, or none to two digits."""
    if interval is None or len({f"{end:.2f}" for end in (median, *interval)}) == 1:
        return f"{median:.2f}"
    return f"{median:.2f} ({words.interval(interval)})"


def _others_work() -> bool:
    """Whether other threads of this process take processor time in the next few milliseconds."""
    before = time.process_time() - time.thread_time()
    time.sleep(_GLANCE)
    return time.process_time() - time.thread_time() - before > _GLANCE / 5


def _come_to_rest() -> bool:
    """Wait until they do not; False where they go on, so that there is more to them than spinning."""
    give_up = time.perf_counter() + _LONGEST_REST
    while _others_work():
        if time.perf_counter() > give_up:
            return False
    return True


def _timed(run: Callable[[], object], clock: Callable[[], float]) -> float:
    run()
    started = clock()
    run()
    return 1000.0 * (clock() - started)


@contextlib.contextmanager
def _collection_off() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
