"""Exact binomial statistics against scipy."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import special, stats
from statsmodels.stats.proportion import proportion_confint

from vit_edge.verify.proportion import LARGEST_SAMPLE, beta_cdf, bisect, clopper_pearson, smallest_sample


@given(st.floats(0, 1), st.floats(0.3, 1e5), st.floats(0.3, 1e5))
@example(0.5, 28.0, 26.0)  # next to the mean, on the side that is summed directly
@example(0.0, 2.0, 3.0)
@example(1.0, 2.0, 3.0)
def test_the_beta_distribution_equals_scipy(x: float, a: float, b: float) -> None:
    # lgamma of 1e5 carries about 1e-10 of relative error into the result
    assert beta_cdf(x, a, b) == pytest.approx(special.betainc(a, b, x), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
@pytest.mark.parametrize(
    ("successes", "trials"),
    [(0, 1), (1, 1), (0, 500), (1, 500), (32, 2300), (7, 7), (700, 50_000), (3, 1_000_000)],
)
def test_the_exact_interval_equals_scipy_and_statsmodels(
    successes: int, trials: int, confidence: float
) -> None:
    expected = stats.binomtest(successes, trials).proportion_ci(confidence, method="exact")
    limits = clopper_pearson(successes, trials, confidence)
    assert limits == pytest.approx((expected.low, expected.high), rel=1e-7, abs=1e-12)
    again = proportion_confint(successes, trials, alpha=1 - confidence, method="beta")
    assert limits == pytest.approx(again, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize(("share", "trials"), [(0.003, 400), (0.01, 250), (0.2, 60), (0.5, 15)])
def test_the_exact_interval_covers_at_least_as_often_as_promised(
    share: float, trials: int, confidence: float
) -> None:
    def covers(successes: int) -> bool:
        lower, upper = clopper_pearson(successes, trials, confidence)
        return lower <= share <= upper

    # summed over all outcomes that can happen, so there is no chance in it
    probability = stats.binom(trials, share).pmf
    covered = sum(probability(successes) for successes in range(trials + 1) if covers(successes))
    assert confidence <= covered <= 1 + 1e-9


@given(st.integers(0, 300), st.integers(1, 300))
def test_the_exact_interval_holds_the_estimate_and_mirrors(successes: int, failures: int) -> None:
    trials = successes + failures
    lower, upper = clopper_pearson(successes, trials, 0.95)
    assert 0 <= lower <= successes / trials <= upper <= 1
    mirrored = clopper_pearson(failures, trials, 0.95)
    assert mirrored == pytest.approx((1 - upper, 1 - lower), abs=1e-12)


def test_bisection_finds_a_root_to_the_last_bit() -> None:
    assert bisect(lambda x: x * x - 2.0, 0.0, 2.0) == pytest.approx(2**0.5, rel=1e-15)


@given(st.integers(1, 5000), st.integers(1, 200_000))
def test_the_smallest_deciding_sample_is_the_smallest(start: int, beyond: int) -> None:
    assert smallest_sample(lambda n: n >= start + beyond, start) == start + beyond


def test_a_sample_that_never_decides_is_none() -> None:
    asked: list[int] = []

    def never(n: int) -> bool:
        asked.append(n)
        return False

    assert smallest_sample(never, 3) is None
    assert max(asked) >= LARGEST_SAMPLE / 2
