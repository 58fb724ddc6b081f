"""The timing harness with runs and a clock that are known exactly."""

import gc
import hashlib
import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_edge.runtime.measure import timing
from vit_edge.runtime.measure.timing import (
    WARM_UP_RUNS,
    Rounds,
    exceeds_half,
    latency,
    median_interval,
    ratio_text,
    ratios_to_first,
    time_interleaved,
)


class Bench:
    """A clock that only runs advance, each by its own number of seconds, and a log of who ran."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def clock(self) -> float:
        return self.now

    def run(self, name: str, seconds: float) -> Callable[[], None]:
        def go() -> None:
            self.now += seconds
            self.log.append(name)

        return go


def test_every_model_is_timed_by_its_own_run_alone() -> None:
    bench = Bench()
    runs = [bench.run("a", 0.002), bench.run("b", 0.003), bench.run("c", 0.001)]
    times = time_interleaved(runs, Rounds(4, 0), bench.clock)
    np.testing.assert_allclose(times, [[2, 3, 1]] * 4, rtol=1e-9)


def test_all_warm_up_before_any_is_timed_and_the_order_rotates() -> None:
    bench = Bench()
    time_interleaved([bench.run(name, 0.001) for name in "abc"], Rounds(4, 0), bench.clock)
    warm, timed = bench.log[: 3 * WARM_UP_RUNS], bench.log[3 * WARM_UP_RUNS :]
    assert warm == [name for name in "abc" for _ in range(WARM_UP_RUNS)]
    assert "".join(timed[::2]) == "".join(timed[1::2]) == "abc" + "bca" + "cab" + "abc"


class Worker:
    """Runs that leave a thread behind, which works outside of Python for a while, as onnxruntime's do."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.found_working: list[bool] = []

    def leave(self) -> None:
        self.look()
        self.threads.append(threading.Thread(target=hashlib.sha256, args=(bytes(60_000_000),)))
        self.threads[-1].start()

    def look(self) -> None:
        self.found_working.append(self.works())

    def works(self) -> bool:
        return any(thread.is_alive() for thread in self.threads)


def test_what_a_run_leaves_working_comes_to_rest_before_the_next_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether a thread works is asked of the thread: on a busy machine it may get no time in a glance."""
    worker = Worker()
    monkeypatch.setattr(timing, "_others_work", worker.works)
    monkeypatch.setattr(timing, "_LONGEST_REST", 60.0)
    time_interleaved([worker.look, worker.leave], Rounds(4, 0))
    warm, timed = worker.found_working[: 2 * WARM_UP_RUNS], worker.found_working[2 * WARM_UP_RUNS :]
    assert any(warm), "the thread works for long enough to be found"
    # look twice, leave twice: only the second leave may find what the first left.
    firsts = [found for turn in range(4) for found in (timed[4 * turn], timed[4 * turn + 2])]
    assert firsts == [False] * 8


def test_a_thread_that_works_is_noticed_and_one_that_waits_is_not() -> None:
    worker, wanted = Worker(), threading.Event()
    waiting = threading.Thread(target=wanted.wait)
    waiting.start()
    assert not timing._others_work()
    wanted.set()
    for _ in range(20):  # whoever looks often enough sees it, however busy the machine is
        worker.leave()
        if timing._others_work():
            break
    else:
        pytest.fail("twenty threads at work were not noticed")
    for thread in [waiting, *worker.threads]:
        thread.join()


def test_threads_that_never_rest_are_not_waited_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """That they work is given: on a busy machine a real thread may get no processor time in a glance."""
    waits = []
    come_to_rest = timing._come_to_rest

    def counted() -> bool:
        waits.append(come_to_rest())
        return waits[-1]

    monkeypatch.setattr(timing, "_others_work", lambda: True)
    monkeypatch.setattr(timing, "_LONGEST_REST", 0.01)
    monkeypatch.setattr(timing, "_come_to_rest", counted)
    assert time_interleaved([lambda: None, lambda: None], Rounds(5, 0)).shape == (5, 2)
    assert waits == [False]


@pytest.mark.parametrize("models", [1, 2])
def test_nothing_is_waited_for_where_nothing_works(monkeypatch: pytest.MonkeyPatch, models: int) -> None:
    monkeypatch.setattr(timing, "_come_to_rest", lambda: pytest.fail("there is nothing to wait for"))
    assert time_interleaved([lambda: None] * models, Rounds(3, 0)).shape == (3, models)


@pytest.mark.parametrize(
    ("at_least", "seconds", "expected"),
    [(5, 0.0, 5), (2, 1.0, 5), (9, 1.0, 9)],  # a round takes 0.2 s of the bench's clock
)
def test_rounds_go_on_until_both_their_number_and_the_time_are_reached(
    at_least: int, seconds: float, expected: int
) -> None:
    bench = Bench()
    times = time_interleaved(
        [bench.run("a", 0.1)], Rounds(at_least, seconds - 1e-9 if seconds else 0), bench.clock
    )
    assert len(times) == expected


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_off_while_timing_and_afterwards_as_before(enabled: bool) -> None:
    seen: list[bool] = []
    (gc.enable if enabled else gc.disable)()
    try:
        time_interleaved([lambda: seen.append(gc.isenabled())], Rounds(2, 0))
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
    assert seen[WARM_UP_RUNS:] == [False] * 4


def test_garbage_collection_is_restored_when_a_run_fails() -> None:
    left = [WARM_UP_RUNS]

    def fails_once_timed() -> None:
        if not left[0]:
            raise RuntimeError("the run failed")
        left[0] -= 1

    with pytest.raises(RuntimeError, match="the run failed"):
        time_interleaved([fails_once_timed], Rounds(1, 0))
    assert gc.isenabled()


def test_latency_figures_are_those_of_numpy() -> None:
    figures = latency(np.arange(1.0, 102.0))
    assert (figures.min_ms, figures.median_ms, figures.p95_ms) == (1.0, 51.0, 96.0)


def test_ratios_are_taken_within_rounds() -> None:
    # the machine is ten times slower in the second round: medians of each column would not show the ratio
    times = np.array([[2.0, 1.0], [20.0, 10.0], [2.0, 1.2]])
    first, second = ratios_to_first(times)
    assert (first.median, first.quartiles) == (1.0, (1.0, 1.0))
    assert second.median == 0.5
    assert second.quartiles == pytest.approx((0.5, 0.55))


@pytest.mark.parametrize(("count", "held"), [(5, None), (6, (0, 5)), (30, (9, 20)), (100, (39, 60))])
def test_the_interval_of_a_median_is_that_of_the_sign_test(count: int, held: tuple[int, int] | None) -> None:
    # by the binomial distribution: of 30 rounds 21 are the fewest that chance wins in at most 2.5 % of cases
    assert median_interval(np.random.default_rng(2).permutation(np.arange(float(count)))) == held


@given(st.lists(st.floats(0.5, 2.0), min_size=6, max_size=60))
def test_who_is_faster_beyond_noise_has_an_interval_below_one(ratios: list[float]) -> None:
    interval = median_interval(np.array(ratios))
    assert interval is not None
    wins = sum(ratio < 1.0 for ratio in ratios)
    assert exceeds_half(wins, len(ratios)) == (interval[1] < 1.0)


@pytest.mark.parametrize(
    ("interval", "shown"),
    [((0.611, 1.023), "0.78 (0.61 to 1.02)"), (None, "0.78"), ((0.779, 0.781), "0.78")],
)
def test_a_ratio_is_shown_with_its_interval(interval: tuple[float, float] | None, shown: str) -> None:
    assert ratio_text(0.78, interval) == shown


@pytest.mark.parametrize(
    ("at_least", "seconds"), [(0, 1.0), (10_001, 1.0), (1, -1.0), (1, float("nan")), (1, float("inf"))]
)
def test_impossible_rounds_are_refused(at_least: int, seconds: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        Rounds(at_least, seconds)
