"""The engine without coverage: Hypothesis draws seeds and edits them. Needs no more than the tests do."""

import contextlib
import resource
import signal
import time
from collections.abc import Iterator
from types import FrameType

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tools.fuzz.report import INPUT_SECONDS, Report
from tools.fuzz.targets import TARGETS

_ROUND = 200  # inputs between looks at the clock


class Hang(BaseException):
    """One input took too long; no reader can swallow it."""


def edited(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """A seed with a few parts replaced, cut short, or followed by a part of another; or any bytes."""
    position = st.integers(0, 2**16)
    edits = st.lists(st.tuples(position, st.integers(0, 4), st.binary(max_size=8)), max_size=6)

    def apply(seed: bytes, changes: list[tuple[int, int, bytes]], cut: int | None, tail: bytes) -> bytes:
        data = bytearray(seed)
        for where, length, replacement in changes:
            start = where % (len(data) + 1)
            data[start : start + length] = replacement
        return bytes(data[: None if cut is None else cut % (len(data) + 1)]) + tail

    seed = st.sampled_from(seeds)
    tail = st.one_of(
        st.just(b""), st.builds(lambda data, start: data[start % (len(data) + 1) :], seed, position)
    )
    return st.one_of(st.builds(apply, seed, edits, st.none() | position, tail), st.binary(max_size=200))


def fuzz(name: str, runs: int, seconds: float) -> Report:
    """Feed one target until the runs or the seconds are over, whichever comes first.

    Args:
        name: one of TARGETS.
        runs: at most so many inputs.
        seconds: about so long.

    Raises:
        BaseException: the first finding, as Hypothesis shows it.
    """
    target, count, began = TARGETS[name], 0, time.monotonic()
    strategy = edited(target.seeds())

    def feed(data: bytes) -> None:
        nonlocal count
        count += 1
        with _alarm(INPUT_SECONDS):
            target.run(data)

    while count < runs and time.monotonic() - began < seconds:
        round_settings = settings(
            max_examples=min(_ROUND, runs - count),
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        round_settings(given(strategy)(feed))()
    return Report(name, "drawn", count, time.monotonic() - began, _peak_mb())


@contextlib.contextmanager
def _alarm(seconds: int) -> Iterator[None]:
    def ring(_number: int, _frame: FrameType | None) -> None:
        raise Hang(f"one input took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
