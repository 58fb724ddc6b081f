"""The choice among what was seen: fast, good enough, never dominated; and the reasons that are given."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_edge.host.bundling.pareto import Candidate, Choice, Timings, choose, reason_against
from vit_edge.host.bundling.repair import Standing

FLOAT = Candidate("float32", Standing.PASS, 0.0)
PASS, PLAUSIBLE, DOUBTFUL, FAIL = Standing


def timed(*medians: float, noise: float = 0.0, rounds: int = 40) -> Timings:
    """Float, then the candidates; noise is relative and of each round and column its own."""
    rng = np.random.default_rng(0)
    times = np.asarray(medians) * (1 + noise * rng.standard_normal((rounds, len(medians))))
    return Timings(np.abs(times) + 1e-6)


def chosen(*seen: tuple[Standing, float, float], noise: float = 0.0) -> Choice:
    """Of quantizations given as (standing, lost at most, latency ratio)."""
    candidates = [FLOAT, *(Candidate(f"q{i}", one, loss) for i, (one, loss, _) in enumerate(seen, 1))]
    return choose(candidates, timed(1.0, *(ratio for _, _, ratio in seen), noise=noise))


@pytest.mark.parametrize(
    ("seen", "integer", "runs", "reason"),
    [
        ([(PASS, 0.9, 0.4)], 1, True, "the only quantization of this file that passes"),
        ([(FAIL, 9.0, 0.3), (PASS, 0.5, 0.5), (PASS, 0.9, 0.4)], 3, True, "the fastest that passes"),
        (
            [(PLAUSIBLE, 0.1, 0.3), (PASS, 0.9, 0.4)],
            2,
            True,
            "the only quantization of this file that passes",
        ),
        (
            [(PLAUSIBLE, 1.5, 0.4)],
            1,
            True,
            "the only quantization of this file with a tolerable estimate",
        ),
        ([(PASS, 0.9, 1.0)], 1, False, "integers are not faster than float"),
        ([(PASS, 0.9, 1.3)], 1, False, "integers are not faster than float"),
        ([(FAIL, 9.0, 0.3), (FAIL, 5.0, 0.4)], 2, False, "no quantization keeps the accuracy"),
        ([(DOUBTFUL, 2.5, 0.3)], 1, False, "no quantization keeps the accuracy"),
    ],
)
def test_the_fastest_that_is_good_enough_runs_or_else_float(
    seen: list[tuple[Standing, float, float]], integer: int, runs: bool, reason: str
) -> None:
    found = chosen(*seen)
    assert (found.integer, found.runs) == (integer, runs)
    assert reason in found.reason


def test_what_noise_hides_does_not_decide_against_accuracy() -> None:
    found = chosen((PASS, 0.9, 0.400), (PASS, 0.3, 0.401), noise=0.05)
    assert found.integer == 2
    assert found.reason.startswith("the most accurate of those that pass")


def test_float_is_shipped_when_the_gain_is_within_noise() -> None:
    assert not chosen((PASS, 0.9, 0.995), noise=0.1).runs
    assert chosen((PASS, 0.9, 0.9), noise=0.1).runs


def test_times_of_another_machine_do_not_decide_against_integers() -> None:
    candidates = [FLOAT, Candidate("q", PASS, 0.9)]
    assert choose(candidates, timed(1.0, 3.0), time_counts=False).runs
    assert not choose(candidates, timed(1.0, 3.0)).runs


def test_everything_that_was_not_chosen_has_its_reason() -> None:
    candidates = [
        FLOAT,
        Candidate("static", FAIL, 9.0),
        Candidate("slow", PASS, 0.5),
        Candidate("open", PLAUSIBLE, 1.5),
        Candidate("fast", PASS, 0.9),
    ]
    timings = timed(1.0, 0.3, 0.6, 0.5, 0.4)
    choice = choose(candidates, timings)
    reasons = [reason_against(i, choice, candidates, timings) for i in range(4)]
    assert choice.integer == 4
    assert reasons == [
        "the reference",
        "does not keep the accuracy asked for",
        "slower than fast",
        "its accuracy is not decided",
    ]


def test_a_quantization_that_is_no_faster_is_kept_for_its_size() -> None:
    candidates = [FLOAT, Candidate("q1", PASS, 0.9), Candidate("q2", PASS, 0.5)]
    timings = timed(1.0, 1.2, 1.4)
    choice = choose(candidates, timings)
    assert reason_against(choice.integer, choice, candidates, timings) == "kept for its size alone"
    assert reason_against(2, choice, candidates, timings) == "slower than float32"


CANDIDATES = st.lists(
    st.tuples(
        st.sampled_from(Standing),
        st.floats(0, 20),
        st.floats(0.2, 2.0),  # latency
        st.floats(0, 0.5),  # noise of it
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(CANDIDATES, st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_what_runs_is_never_slower_and_less_accurate_than_another_that_was_seen(
    drawn: list[tuple[Standing, float, float, float]], rounds: int, seed: int
) -> None:
    candidates = [FLOAT, *(Candidate(f"q{i}", *row[:2]) for i, row in enumerate(drawn))]
    rng = np.random.default_rng(seed)
    latencies = np.asarray([1.0, *(row[2] for row in drawn)])
    spread = np.asarray([0.1, *(row[3] for row in drawn)])
    timings = Timings(latencies * np.exp(spread * rng.standard_normal((rounds, len(candidates)))))
    found = choose(candidates, timings)
    runs = found.integer if found.runs else 0
    mine = timings.ratio(runs), candidates[runs].loss
    for i, other in enumerate(candidates):
        assert not (timings.ratio(i) < mine[0] and other.loss < mine[1]), (found, i)
    assert candidates[runs].standing <= PLAUSIBLE
    if found.runs:
        assert timings.ratio(runs) < 1
