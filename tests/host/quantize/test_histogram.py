"""A histogram that depends on the values alone, and the ranges read from it."""

import itertools
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from vit_edge.host.affine import Affine
from vit_edge.host.quantize.histogram import BINS, LEVELS, SMALLEST, Histogram
from vit_edge.host.quantize.ranges import statistical_ranges

FEW = settings(max_examples=25, deadline=None, derandomize=True)
PARTS = st.lists(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=20), min_size=1, max_size=6
)


def of(values: list[float]) -> Histogram:
    return Histogram.of(np.asarray(values, np.float32))


def assert_equal(a: Histogram, b: Histogram) -> None:
    assert a.exponent == b.exponent
    np.testing.assert_array_equal(a.counts, b.counts)


@FEW
@given(PARTS)
def test_merging_parts_gives_the_histogram_of_the_whole(parts: list[list[float]]) -> None:
    merged = of(parts[0])
    for part in parts[1:]:
        merged = merged.merged(of(part))
    assert_equal(merged, of([value for part in parts for value in part]))
    assert merged.counts.sum() == sum(map(len, parts))


@FEW
@given(PARTS, st.randoms(use_true_random=False))
def test_the_order_of_values_and_of_parts_does_not_matter(parts: list[list[float]], random: Random) -> None:
    values = [value for part in parts for value in part]
    random.shuffle(values)
    merged = of(parts[-1])
    for part in reversed(parts[:-1]):
        merged = of(part).merged(merged)
    assert_equal(merged, of(values))


@FEW
@given(st.lists(st.floats(-100, 100, width=32), min_size=1), st.integers(0, 30))
def test_widening_equals_counting_with_the_wider_bins(values: list[float], doublings: int) -> None:
    narrow = of(values)
    wide = narrow.widened(narrow.exponent + doublings)
    edges = np.ldexp(np.arange(-BINS // 2, BINS // 2 + 1) / (BINS // 2), wide.exponent)
    np.testing.assert_array_equal(wide.counts, np.histogram(values, edges)[0])


@FEW
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1))
def test_the_bins_are_those_of_numpy(values: list[float]) -> None:
    found = of(values)
    edges = found.width * np.arange(-BINS // 2, BINS // 2 + 1)
    np.testing.assert_array_equal(found.counts, np.histogram(values, edges)[0])
    assert np.abs(values).max() < 2.0**found.exponent


def test_zeros_alone_have_the_narrowest_range_and_one_bin() -> None:
    found = of([0.0, -0.0, 0.0])
    assert (found.exponent, found.counts[BINS // 2]) == (SMALLEST, 3)
    assert found.percentile(0.999) == (0.0, found.width)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        of([1.0, bad])


@pytest.mark.parametrize("share", [0.9, 0.99, 0.999])
@pytest.mark.parametrize("shift", [-0.5, 0.0, 2.0])
def test_a_percentile_is_that_of_numpy_to_a_bin(share: float, shift: float) -> None:
    values = (np.random.default_rng(0).standard_normal(50_000) + shift).astype(np.float32)
    found = Histogram.of(values)
    low, high = found.percentile(share)
    assert low == pytest.approx(min(0.0, np.quantile(values, 1 - share)), abs=1.1 * found.width)
    assert high == pytest.approx(max(0.0, np.quantile(values, share)), abs=1.1 * found.width)


def test_percentiles_widen_with_the_share() -> None:
    found = Histogram.of((np.random.default_rng(0).standard_normal(50_000) ** 3).astype(np.float32))
    ranges = [found.percentile(share) for share in (0.9, 0.99, 0.999, 1.0)]
    assert all(a[0] >= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(ranges))
    assert found.counts.sum() == found.counts[found.centres.searchsorted(ranges[-1][0]) :].sum()


def _entropy_by_the_book(counts: np.ndarray) -> int:
    """Bins kept, as in the published procedure, word for word."""
    best, least = 0, np.inf
    for length in range(128, len(counts) + 1):
        reference = counts[:length].astype(float)
        reference[-1] += counts[length:].sum()
        coded = np.zeros(length)
        for level in range(128):
            part = slice(level * length // 128, (level + 1) * length // 128)
            used = counts[part] > 0
            if used.any():
                coded[part][used] = counts[part].sum() / used.sum()
        divergence = entropy(reference, np.maximum(coded / coded.sum(), 1e-12))
        if divergence < least - 1e-12:
            best, least = length, divergence
    return best


@pytest.mark.parametrize("tail", [1, 3, 5])
def test_entropy_is_that_of_the_published_procedure(tail: int) -> None:
    values = np.random.default_rng(0).standard_normal(20_000) ** tail
    found = Histogram.of(values.astype(np.float32))
    magnitudes = found.counts[BINS // 2 :] + found.counts[: BINS // 2][::-1]
    magnitudes = magnitudes[: np.flatnonzero(magnitudes)[-1] + 1]
    assert found.entropy() == pytest.approx(_entropy_by_the_book(magnitudes) * found.width, rel=0.02)


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "one-sided", "outlier"])
def test_least_squares_beats_the_whole_range_on_the_values_themselves(kind: str) -> None:
    values = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    values = {
        "normal": values,
        "heavy tails": values**5,
        "one-sided": np.abs(values),
        "outlier": np.append(np.tile(values, 15), np.float32(12)),
    }[kind]
    low, high = min(float(values.min()), 0.0), float(values.max())

    def error(a: float, b: float) -> float:
        reach = Affine.of(a, b)
        return float(np.square(reach.rounded(values) - values, dtype=np.float64).mean())

    ends = Histogram.of(values).least_squares(low, high)
    assert low <= ends[0] <= 0.0 < ends[1] <= high
    # 2 %: the bins stand for their values
    assert error(*ends) <= 1.02 * error(low, high)
    if kind == "outlier":
        assert error(*ends) < 0.95 * error(low, high)


@FEW
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=50))
def test_no_method_reaches_beyond_what_was_seen(values: list[float]) -> None:
    low, high = min(values), max(values)
    whole = Affine.of(low, high)
    found = statistical_ranges(of(values), low, high)
    assert len(found) == 6
    for reach in found.values():
        assert reach.scale <= whole.scale * (1 + 1e-6)
        assert 0 <= reach.zero_point <= LEVELS
