"""The interval for the 1 % quantile, against binomial counts of scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vit_edge.verify.quantile import TAIL, quantile_interval


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 1000), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_limits_are_the_order_statistics_that_binomial_counts_leave(
    count: int, seed: int, confidence: float
) -> None:
    values = np.random.default_rng(seed).uniform(-1, 1, count)
    low, high = quantile_interval(values, confidence)
    ordered, alpha = np.sort(values), (1 - confidence) / 2
    # X(r) lies above the quantile with the probability of at most r - 1 values below it
    ranks = [r for r in range(1, count + 1) if stats.binom.cdf(r - 1, count, TAIL) <= alpha]
    assert low == (ordered[ranks[-1] - 1] if ranks else -1.0)
    above = [r for r in range(1, count + 1) if stats.binom.sf(r - 1, count, TAIL) < alpha]
    assert high == (ordered[above[0] - 1] if above else 1.0)


@pytest.mark.parametrize(("count", "known"), [(367, False), (368, True)])
def test_a_lower_end_takes_some_hundreds_of_values(count: int, known: bool) -> None:
    assert (quantile_interval(np.linspace(0.5, 1, count), 0.95)[0] > -1) is known
