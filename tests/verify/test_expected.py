"""The drop by the float model's own probabilities: formulae, coverage, and what it says of its assumption."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, special, stats

from vit_edge.spec import Tolerance, Verdict
from vit_edge.verify.expected import expected_drop, fitted_temperature
from vit_edge.verify.gamma import gamma_cdf, gamma_quantile

Reals = NDArray[np.float64]
CLASSES = 20


def population(n: int, noise: float, seed: int = 0) -> tuple[Reals, Reals, Reals]:
    """Float logits, those with noise, and the probabilities that the first stand for."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, CLASSES))
    logits[np.arange(n), rng.integers(0, CLASSES, n)] += rng.gamma(2.0, 3.0, n)
    return logits, logits + rng.normal(0, noise, logits.shape), special.softmax(logits, axis=1)


def drawn(probabilities: Reals, seed: int) -> NDArray[np.int64]:
    """A label per row."""
    uniform = np.random.default_rng(seed).random(len(probabilities))
    labels: NDArray[np.int64] = (probabilities.cumsum(axis=1) < uniform[:, None]).sum(axis=1)
    return labels.clip(max=CLASSES - 1)


def costs(logits: Reals, other: Reals, p: Reals) -> Reals:
    rows = np.arange(len(logits))
    cost: Reals = p[rows, logits.argmax(axis=1)] - p[rows, other.argmax(axis=1)]
    return cost


def test_the_estimate_is_the_mean_loss_of_probability() -> None:
    logits, other, p = population(500, 0.3)
    found = expected_drop(logits, other, None, Tolerance())
    assert found.drop == pytest.approx(100 * costs(logits, other, p).mean())
    assert found.changed == np.count_nonzero(logits.argmax(1) != other.argmax(1))
    assert (found.temperature, found.fitted, found.calibration) == (1.0, False, None)
    assert 100 * costs(logits, other, p).max() <= found.largest


@pytest.mark.parametrize(("n", "noise"), [(100, 0.2), (400, 0.1), (400, 1.0)])
def test_the_interval_covers_the_drop_of_a_calibrated_model(n: int, noise: float) -> None:
    logits, other, p = population(40_000, noise)
    true = 100 * costs(logits, other, p).mean()
    rng, missed = np.random.default_rng(1), 0
    for _ in range(200):
        some = rng.integers(0, len(logits), n)
        interval = expected_drop(logits[some], other[some], None, Tolerance()).ci95
        assert interval is not None
        missed += not interval[0] <= true <= interval[1]
    assert missed / 200 < 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5


def test_a_model_that_changes_nothing_passes_with_no_interval_to_speak_of() -> None:
    logits, _, _ = population(50, 0.1)
    found = expected_drop(logits, logits, None, Tolerance())
    assert (found.drop, found.ci95, found.verdict, found.factor) == (0.0, (0.0, 0.0), Verdict.PASS, None)


@pytest.mark.parametrize(("noise", "limit", "verdict"), [(0.1, 1.0, Verdict.PASS), (2.0, 1.0, Verdict.FAIL)])
def test_the_factor_is_how_far_the_limit_lies_from_the_interval(
    noise: float, limit: float, verdict: Verdict
) -> None:
    logits, other, _ = population(2000, noise)
    found = expected_drop(logits, other, None, Tolerance(limit))
    assert found.verdict is verdict
    assert found.ci95 is not None
    assert found.factor is not None
    expected = limit / found.ci95[1] if verdict is Verdict.PASS else found.ci95[0] / limit
    assert found.factor == pytest.approx(expected)
    assert found.factor > 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_the_likeliest(temperature: float) -> None:
    logits, _, _ = population(4000, 0.1)
    labels = drawn(special.softmax(logits / temperature, axis=1), 3)
    rows = np.arange(len(labels))
    best = optimize.minimize_scalar(
        lambda t: -special.log_softmax(logits / t, axis=1)[rows, labels].mean(),
        bounds=(0.1, 10),
        method="bounded",
    )
    assert fitted_temperature(logits, labels) == pytest.approx(best.x, rel=5e-3)
    assert fitted_temperature(logits, labels) == pytest.approx(temperature, rel=0.1)


def test_calibration_is_rejected_as_often_as_the_level_says_and_where_it_is_wrong_always() -> None:
    """Near ties that the float model calls wrongly: always the second class is the right one."""
    logits, other, p = population(800, 0.5)
    sound = []
    for seed in range(60):
        found = expected_drop(logits, other, drawn(p, seed), Tolerance()).calibration
        assert found is not None
        sound.append(found.p_value)
    assert np.mean(np.array(sound) < 0.05) < 0.05 + 3 * (0.05 * 0.95 / 60) ** 0.5
    order = np.argsort(-logits, axis=1)
    margin = np.take_along_axis(logits, order[:, :1], 1) - np.take_along_axis(logits, order[:, 1:2], 1)
    labels = np.where(margin[:, 0] < 1.0, order[:, 1], drawn(p, 1))
    wrong = expected_drop(logits, other, labels, Tolerance()).calibration
    assert wrong is not None
    assert wrong.p_value < 1e-3
    assert wrong.found < wrong.claimed


def test_a_run_that_stops_when_it_likes_gets_an_estimate_and_no_interval() -> None:
    logits, other, _ = population(200, 0.3)
    found = expected_drop(logits, other, None, Tolerance(), sequential=True)
    assert (found.ci95, found.verdict, found.factor) == (None, None, None)
    assert found.drop > 0


@given(st.floats(0.01, 3000), st.floats(0.0, 3.0))
def test_the_gamma_distribution_equals_scipys(a: float, share: float) -> None:
    assert gamma_cdf(a * share, a) == pytest.approx(stats.gamma.cdf(a * share, a), abs=1e-9)


@given(st.floats(0.05, 500), st.sampled_from([0.005, 0.025, 0.5, 0.975]))
def test_gamma_quantiles_equal_scipys(a: float, probability: float) -> None:
    assert gamma_quantile(a, probability) == pytest.approx(
        stats.gamma.ppf(probability, a), rel=1e-6, abs=1e-12
    )
