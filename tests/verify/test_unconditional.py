"""The exact interval: errors counted over all outcomes, against the score interval and brute force."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import special, stats

from vit_edge.verify.paired import score_interval
from vit_edge.verify.proportion import beta_cdf, beta_cdf_of, log_gamma
from vit_edge.verify.unconditional import exact_interval, p_value, statistic

TAIL = 0.025


def wrong(n: int, drop: float, gain: float) -> float:
    """How likely the test refuses the true drop as too small, summed over all outcomes."""
    loss, total, least = gain + drop, 0.0, 0
    for gained in range(int(n * gain + 7 * (n * gain + 1) ** 0.5) + 6):
        chance = stats.binom.pmf(gained, n, gain)
        if chance < 1e-8:
            continue
        lost = max(least - 2, int(gained + n * drop), 0)  # nothing below what is expected is refused
        while p_value(lost, gained, n, drop, 0.02 * TAIL) > TAIL:
            lost += 1
        least = lost
        total += chance * stats.binom.sf(lost - 1, n - gained, loss / (1 - gain))
    return total


@pytest.mark.parametrize(
    ("n", "drop", "gain"),
    [
        (200, 0.01, 0.0005),  # the score interval errs in 1.8 % here, in 3.6 and 4.3 % in the next two
        (200, 0.01, 0.01),
        (300, 0.01, 0.003),
        (300, -0.03, 0.033),
    ],
)
def test_each_limit_errs_in_at_most_half_of_what_the_confidence_leaves(
    n: int, drop: float, gain: float
) -> None:
    assert wrong(n, drop, gain) <= TAIL


@pytest.mark.parametrize(
    ("lost", "gained", "n"), [(12, 9, 500), (24, 8, 2300), (60, 40, 10000), (300, 200, 10000), (40, 40, 1000)]
)
def test_with_images_enough_it_is_as_narrow_as_the_score_interval(lost: int, gained: int, n: int) -> None:
    (low, high), (score_low, score_high) = (
        way(lost, gained, n, 0.95) for way in (exact_interval, score_interval)
    )
    assert high - low <= 1.05 * (score_high - score_low)


def test_few_losses_and_no_gain_prove_less_than_the_score_interval_claims() -> None:
    assert score_interval(6, 0, 200, 0.95)[0] > 0.01 > exact_interval(6, 0, 200, 0.95)[0]


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 25), st.integers(0, 25), st.integers(50, 400), st.sampled_from([0.8, 0.95, 0.99]))
@example(5, 5, 10, 0.95)
@example(10, 0, 10, 0.95)
@example(0, 10, 10, 0.95)
@example(0, 0, 1, 0.95)
def test_the_interval_holds_the_estimate_mirrors_and_agrees_with_its_test(
    lost: int, gained: int, n: int, confidence: float
) -> None:
    lower, upper = exact_interval(lost, gained, n, confidence)
    assert -1 <= lower <= (lost - gained) / n <= upper <= 1
    assert lower < upper
    assert exact_interval(gained, lost, n, confidence) == (-upper, -lower)
    tail = (1 - confidence) / 2
    if lower > -1:
        assert p_value(lost, gained, n, lower, 0.02 * tail) <= tail


def test_more_confidence_widens_the_interval() -> None:
    narrow, wide = (exact_interval(7, 3, 300, confidence) for confidence in (0.8, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_counts_that_are_not_whole_lie_between_their_neighbours() -> None:
    lowers = [exact_interval(lost, 1.0, 200, 0.95)[0] for lost in (6.0, 6.5, 7.0)]
    assert lowers == sorted(lowers)


def test_very_many_discordant_images_leave_it_to_the_normal_distribution() -> None:
    assert exact_interval(12000, 9000, 10**6, 0.95) == score_interval(12000, 9000, 10**6, 0.95)


def test_the_tail_is_that_of_brute_force() -> None:
    """Largest over the same confidence set of the probability of all outcomes that are as extreme."""
    n, lost, gained, drop = 40, 5, 1, 0.02
    set_error = 0.001
    low, high = stats.beta.ppf([set_error / 2, 1 - set_error / 2], [6, 7], [n - 5, n - 6])
    reached = statistic(np.asarray(lost), np.asarray(gained), n, drop)
    x, y = np.meshgrid(np.arange(n + 1.0), np.arange(n + 1.0), indexing="ij")
    extreme = (x + y <= n) & (statistic(x, y, n, drop) >= reached - 1e-9)
    tails = []
    for gain in np.linspace(max(0, (low - drop) / 2), (high - drop) / 2, 400):
        chances = (gain + drop, gain, 1 - 2 * gain - drop)
        outcomes = np.stack([x[extreme], y[extreme], n - x[extreme] - y[extreme]], axis=1)
        tails.append(stats.multinomial.pmf(outcomes, n, chances).sum())
    # 24 probabilities of a gain are tried instead of 400
    assert p_value(lost, gained, n, drop, set_error) - set_error == pytest.approx(max(tails), rel=0.01)


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=20))
def test_the_logarithm_of_gamma_equals_scipys(values: list[float]) -> None:
    x = np.asarray(values)
    np.testing.assert_allclose(log_gamma(x), special.gammaln(x), rtol=1e-12, atol=1e-12)


@given(st.floats(0, 1), st.floats(0.5, 1e4), st.floats(0.5, 1e4))
def test_the_beta_function_of_arrays_equals_scipys_and_that_of_numbers(x: float, a: float, b: float) -> None:
    (found,) = beta_cdf_of(np.array([x]), np.array([a]), np.array([b]))
    assert found == pytest.approx(special.betainc(a, b, x), abs=1e-9)
    assert found == pytest.approx(beta_cdf(x, a, b), abs=1e-9)
