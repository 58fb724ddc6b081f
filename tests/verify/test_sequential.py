"""Looking on until decided: error rates by simulation, numbers against a game played bet by bet."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import integrate, stats

from vit_edge.verify.paired import score_interval
from vit_edge.verify.proportion import clopper_pearson
from vit_edge.verify.sequential import drop_sequence, log_wealth, share_sequence

Outcomes = np.ndarray  # int (N,) of 1 lost, -1 gained, 0 neither


def counts_where_it_matters(path: Outcomes) -> Iterator[tuple[int, int, int]]:
    """(lost, gained, n) right after each lost or gained image, right before it, and at the end.

    In between nothing but images without a difference come in, which move each wealth one way.
    """
    changes = np.flatnonzero(path)
    for n in sorted({*changes.tolist(), *(changes + 1).tolist(), len(path)} - {0}):
        seen = path[:n]
        yield int(np.count_nonzero(seen > 0)), int(np.count_nonzero(seen < 0)), n


def ever_refuses(path: Outcomes, drop: float, confidence: float) -> tuple[bool, bool]:
    """Whether "the drop is at least that" and "at most that" are ever refused on the way."""
    bar = math.log(2 / (1 - confidence))
    at_least = at_most = False
    for lost, gained, n in counts_where_it_matters(path):
        same = n - lost - gained
        at_least |= log_wealth(((1.0, lost), (-1.0, gained), (0.0, same)), drop) >= bar
        at_most |= log_wealth(((-1.0, lost), (1.0, gained), (0.0, same)), -drop) >= bar
    return at_least, at_most


def within_chance(errors: int, paths: int, rate: float) -> bool:
    """Whether so many errors are no more than `rate` allows, at three standard errors."""
    return errors <= paths * rate + 3 * math.sqrt(paths * rate * (1 - rate))


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize(
    ("lost", "gained", "n"), [(0.01, 0.0, 2000), (0.03, 0.02, 1000), (0.06, 0.01, 500), (0.2, 0.2, 200)]
)
def test_looking_after_every_image_errs_no_more_often_than_promised(
    lost: float, gained: float, n: int, confidence: float
) -> None:
    random = np.random.default_rng(11)
    paths = random.choice([1, -1, 0], size=(300, n), p=[lost, gained, 1 - lost - gained])
    refused = np.array([ever_refuses(path, lost - gained, confidence) for path in paths])
    # the true drop is refused from above and from below, each in at most half of the cases given away
    for side in refused.sum(axis=0):
        assert within_chance(side, len(paths), (1 - confidence) / 2)


def test_an_interval_for_a_fixed_number_would_err_more_often() -> None:
    random = np.random.default_rng(12)
    paths = random.choice([1, -1, 0], size=(200, 1500), p=[0.03, 0.02, 0.95])
    lost, gained = np.cumsum(paths > 0, axis=1), np.cumsum(paths < 0, axis=1)
    errors = 0
    for x, y in zip(lost, gained, strict=True):
        limits = [score_interval(int(x[n]), int(y[n]), n + 1, 0.95) for n in range(99, 1500, 50)]
        errors += any(not lower <= 0.01 <= upper for lower, upper in limits)
    assert not within_chance(errors, len(paths), 0.05)


def test_a_folder_whose_own_drop_is_just_tolerated_is_seldom_decided_by_a_part_of_it() -> None:
    random = np.random.default_rng(13)
    folder = np.repeat([1, -1, 0], [30, 10, 360])  # drop 0.05
    refused = np.array([ever_refuses(random.permutation(folder), 0.05, 0.8) for _ in range(300)])
    for side in refused.sum(axis=0):
        assert within_chance(side, 300, 0.1)


@pytest.mark.parametrize(
    ("lost", "gained", "max_drop", "within"),
    [
        (0.0, 0.0, 0.01, 500),  # identical models; a fixed number takes 381
        (0.001, 0.001, 0.02, 500),
        (0.0, 0.0, 0.05, 100),
        (0.15, 0.02, 0.01, 150),
        (0.7, 0.0, 0.01, 16),
        (0.08, 0.03, 0.01, 900),
    ],
)
def test_a_clear_case_is_decided_after_few_images(
    lost: float, gained: float, max_drop: float, within: int
) -> None:
    random = np.random.default_rng(14)
    paths = random.choice([1, -1, 0], size=(50, within), p=[lost, gained, 1 - lost - gained])
    refused = np.array([ever_refuses(path, max_drop, 0.95) for path in paths])
    right, wrong = (0, 1) if lost - gained < max_drop else (1, 0)
    assert refused[:, right].sum() >= 40  # four in five, and all of them where nothing is left to chance
    assert refused[:, wrong].sum() == 0


@given(st.lists(st.sampled_from([1, -1, 0]), min_size=1, max_size=60), st.floats(-0.9, 0.9))
def test_the_wealth_is_that_of_the_game_played_image_by_image(path: list[int], mean: float) -> None:
    wealths = []
    for node in range(32):
        share = (1 + math.cos((2 * node + 1) * math.pi / 64)) / 2
        wealths.append(math.prod(1 + share / (1 - mean) * (mean - x) for x in path))
    counts = tuple((float(value), path.count(value)) for value in (1, -1, 0))
    assert log_wealth(counts, mean) == pytest.approx(math.log(np.mean(wealths)), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("successes", "failures", "mean"), [(0, 60, 0.02), (3, 40, 0.2), (9, 30, 0.1)])
def test_the_nodes_stand_for_the_arcsine_law(successes: int, failures: int, mean: float) -> None:
    def wealth(angle: float) -> float:  # of a bet whose angle is uniform, which makes its share arcsine
        share = (1 + math.cos(angle)) / 2
        return (1 - share) ** successes * (1 + share * mean / (1 - mean)) ** failures

    expected = integrate.quad(wealth, 0, math.pi)[0] / math.pi
    assert stats.arcsine.cdf((1 + math.cos(2.0)) / 2) == pytest.approx(1 - 2.0 / math.pi)
    # the 32 nodes integrate polynomials up to degree 63 exactly
    assert log_wealth(((1.0, successes), (0.0, failures)), mean) == pytest.approx(
        math.log(expected), rel=1e-9
    )


COUNTS = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 800)).filter(sum)


@given(COUNTS, st.sampled_from([0.8, 0.95, 0.99]))
@example((1, 0, 0), 0.95)
@example((0, 3, 0), 0.95)
@example((0, 0, 1), 0.95)
def test_the_sequence_holds_the_estimate_and_mirrors(counts: tuple[int, int, int], confidence: float) -> None:
    lost, gained, same = counts
    n = lost + gained + same
    lower, upper = drop_sequence(lost, gained, n, confidence)
    assert -1 <= lower <= (lost - gained) / n <= upper <= 1
    assert drop_sequence(gained, lost, n, confidence) == pytest.approx((-upper, -lower), abs=1e-12)


@given(COUNTS)
def test_the_upper_limit_is_where_the_wealth_reaches_its_bar(counts: tuple[int, int, int]) -> None:
    lost, gained, same = counts
    _, upper = drop_sequence(lost, gained, sum(counts), 0.9)
    outcomes = ((1.0, lost), (-1.0, gained), (0.0, same))
    if upper < 1 - 1e-9:
        assert log_wealth(outcomes, upper) == pytest.approx(math.log(20), abs=1e-6)


@given(st.integers(0, 300), st.integers(0, 300), st.sampled_from([0.8, 0.95, 0.99]))
def test_a_sequence_is_wider_than_the_exact_interval(hits: int, misses: int, confidence: float) -> None:
    n = hits + misses or 1
    lower, upper = share_sequence(hits, n, confidence)
    exact = clopper_pearson(hits, n, confidence)
    assert lower <= exact[0] + 1e-9
    assert exact[1] <= upper + 1e-9
    assert lower <= hits / n <= upper
