"""The tables of the gate's errors hold what the documentation claims, on a small scale."""

import pytest

from tools import coverage


def test_the_errors_of_a_single_look_hold_where_those_of_the_score_interval_do_not() -> None:
    rows = coverage.single_looks((200,))
    assert all(row["wrong_fail"] <= 2.5 and row["wrong_pass"] <= 2.5 for row in rows)
    assert max(row["wrong_fail_score"] for row in rows) > 3.0
    assert all(row["width_ratio"] <= 1.05 for row in rows)


def test_repeated_looks_inflate_the_error_unless_they_are_corrected() -> None:
    last = coverage.repeated_looks(300)[-1]
    assert last["looks"] == 5
    assert last["wrong_pass"] < last["wrong_pass_plain"]
    assert last["wrong_fail"] < last["wrong_fail_plain"]


def test_copies_narrow_an_interval_that_does_not_know_of_them() -> None:
    twenty = [row for row in coverage.copies(30) if row["images_per_scene"] == 20 and row["alike"] == 1.0]
    assert twenty[0]["coverage"] > 85 > twenty[0]["coverage_plain"]


@pytest.mark.parametrize(
    ("count", "trials", "probability", "expected"), [(0, 5, 0.1, 1.0), (6, 5, 0.1, 0.0), (1, 2, 0.5, 0.75)]
)
def test_binomial_tails(count: int, trials: int, probability: float, expected: float) -> None:
    assert coverage.at_least(count, trials, probability) == pytest.approx(expected)
