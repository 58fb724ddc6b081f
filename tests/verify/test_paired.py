"""Paired statistics against published values, scipy and a score test inverted by brute force."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar

from vit_edge.errors import DatasetError
from vit_edge.verify.paired import (
    PairedCounts,
    mcnemar_exact,
    mcnemar_one_sided,
    paired_counts,
    score_interval,
)

COUNTS = st.builds(
    PairedCounts, st.integers(1, 500), st.integers(0, 60), st.integers(0, 60), st.integers(0, 200)
)


def drop_interval(counts: PairedCounts, confidence: float) -> tuple[float, float]:
    return score_interval(counts.only_float_right, counts.only_quant_right, counts.n, confidence)


@pytest.mark.parametrize(
    ("counts", "confidence", "published", "places"),
    [
        # Tango 1998, section 6.1, soft contact lenses: lower 90 % limit -0.096
        (PairedCounts(43, 0, 1, 0), 0.90, (-0.096, None), 3),
        # Fagerland, Lydersen and Laake, Statistical Analysis of Contingency Tables, chapter 8 (Cavo 2012)
        (PairedCounts(59, 6, 16, 80), 0.95, (-0.1240, -0.0054), 4),
        # R package PropCIs 0.3-0: scoreci.mp(20, 60, 1000, 0.95) and scoreci.mp(28, 25, 618, 0.90)
        (PairedCounts(920, 60, 20, 0), 0.95, (0.0231, 0.0584), 4),
        (PairedCounts(565, 25, 28, 0), 0.90, (-0.0247, 0.0148), 4),
    ],
)
def test_the_score_interval_equals_published_values(
    counts: PairedCounts, confidence: float, published: tuple[float, float | None], places: int
) -> None:
    lower, upper = drop_interval(counts, confidence)
    assert round(lower, places) == published[0]
    assert published[1] is None or round(upper, places) == published[1]


def score_statistic(lost: int, gained: int, n: int, drop: float) -> float:
    """Tango's statistic with the nuisance parameter found by maximising the likelihood numerically."""

    def negative_log_likelihood(gain: float) -> float:
        cells = ((lost, gain + drop), (gained, gain), (n - lost - gained, 1 - 2 * gain - drop))
        return -sum(count * math.log(max(p, 1e-300)) for count, p in cells if count)

    low, high = max(0.0, -drop), (1 - drop) / 2
    fit = optimize.minimize_scalar(
        negative_log_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-13}
    )
    candidates = min((low, high, float(fit.x)), key=negative_log_likelihood)
    variance = 2 * candidates + drop * (1 - drop)
    return (lost - gained - n * drop) / math.sqrt(n * variance)


@pytest.mark.parametrize(
    ("lost", "gained", "n"), [(3, 1, 50), (0, 4, 80), (7, 0, 300), (0, 0, 40), (12, 9, 500), (30, 2, 60)]
)
def test_the_limits_are_where_a_brute_force_score_test_just_rejects(lost: int, gained: int, n: int) -> None:
    lower, upper = drop_interval(PairedCounts(n - lost - gained, lost, gained, 0), 0.95)
    z = stats.norm.ppf(0.975)
    # the numerical maximum of the likelihood is good to about 1e-7 in its argument
    assert score_statistic(lost, gained, n, upper) == pytest.approx(-z, abs=1e-4)
    assert score_statistic(lost, gained, n, lower) == pytest.approx(z, abs=1e-4)


@given(COUNTS, st.sampled_from([0.8, 0.95, 0.99]))
@example(PairedCounts(0, 5, 0, 0), 0.95)
@example(PairedCounts(0, 0, 5, 0), 0.95)
@example(PairedCounts(1, 0, 0, 0), 0.95)
def test_the_interval_holds_the_estimate_and_mirrors(counts: PairedCounts, confidence: float) -> None:
    lower, upper = drop_interval(counts, confidence)
    assert -1 <= lower <= counts.drop <= upper <= 1
    assert lower < upper
    swapped = PairedCounts(
        counts.both_right, counts.only_quant_right, counts.only_float_right, counts.both_wrong
    )
    assert drop_interval(swapped, confidence) == (-upper, -lower)


@given(COUNTS)
def test_more_confidence_widens_the_interval(counts: PairedCounts) -> None:
    narrow, wide = drop_interval(counts, 0.8), drop_interval(counts, 0.99)
    assert wide[0] <= narrow[0] <= narrow[1] <= wide[1]


def test_without_a_discordant_image_the_limit_is_z2_over_n_plus_z2() -> None:
    z2 = stats.norm.ppf(0.975) ** 2
    lower, upper = drop_interval(PairedCounts(450, 0, 0, 50), 0.95)
    assert upper == pytest.approx(z2 / (500 + z2), rel=1e-12)
    assert lower == -upper


@pytest.mark.parametrize(
    ("n", "lost", "gained"), [(300, 0.02, 0.01), (300, 0.01, 0.01), (1000, 0.008, 0.003), (2300, 0.01, 0.006)]
)
def test_the_95_percent_interval_covers_about_95_percent(n: int, lost: float, gained: float) -> None:
    draws = np.random.default_rng(20).multinomial(n, [lost, gained, 1 - lost - gained], size=4000)
    outcomes, times = np.unique(draws, axis=0, return_counts=True)
    covered = 0
    for (x, y, rest), repeats in zip(outcomes.tolist(), times.tolist(), strict=True):
        lower, upper = drop_interval(PairedCounts(rest, x, y, 0), 0.95)
        covered += repeats * (lower <= lost - gained <= upper)
    # 4000 draws have a standard error of 0.35 points; a Wald interval falls to 89 in such cases
    assert 0.935 <= covered / 4000 <= 0.975


@given(st.integers(0, 400), st.integers(0, 400))
@example(25, 28)
@example(0, 0)
@example(0, 7)
def test_mcnemar_equals_statsmodels_and_the_binomial_test_of_scipy(lost: int, gained: int) -> None:
    table = [[10, lost], [gained, 3]]
    two_sided = mcnemar(table, exact=True).pvalue if lost + gained else 1.0
    one_sided = stats.binomtest(lost, lost + gained, alternative="greater").pvalue if lost + gained else 1.0
    assert mcnemar_exact(lost, gained) == pytest.approx(two_sided, rel=1e-9)
    assert mcnemar_one_sided(lost, gained) == pytest.approx(one_sided, rel=1e-9)


def test_outcomes_are_counted_into_four_cells() -> None:
    float_right = np.array([1, 1, 1, 0, 0, 0], bool)
    quant_right = np.array([1, 1, 0, 1, 0, 0], bool)
    assert paired_counts(float_right, quant_right) == PairedCounts(2, 1, 1, 2)


def test_no_image_is_refused() -> None:
    with pytest.raises(DatasetError, match="at least one labelled image"):
        paired_counts(np.zeros(0, bool), np.zeros(0, bool))


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((2, 2), (2, 2))])
def test_outcomes_that_do_not_pair_up_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="two arrays of one shape"):
        paired_counts(np.ones(shapes[0], bool), np.ones(shapes[1], bool))


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be negative"):
        PairedCounts(3, -1, 0, 0)
