"""INT8 weights: scales, rounding to nearest, and rounding that compensates errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_edge.arrays import Float64
from vit_edge.host.quantize import weights as weights_module
from vit_edge.host.quantize.weights import SHRINKS, STEPS, column_scales, gptq_rounded, nearest

FEW = settings(max_examples=25, deadline=None, derandomize=True)


def drawn(seed: int, size: int, rows: int, correlation: float) -> tuple[Float64, Float64]:
    """(weight (size, 5), second moment (size, size) of `rows` inputs that share one direction)."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((rows, 1)) * correlation
    inputs = rng.standard_normal((rows, size)) * rng.uniform(0.2, 3.0, size) + shared * rng.normal(size=size)
    return rng.standard_normal((size, 5)), inputs.T @ inputs / rows


def output_error(weight: Float64, coded: np.ndarray, scale: np.ndarray, moment: Float64) -> float:
    """Mean squared error of the layer's output over the inputs of that moment."""
    error = coded * scale.astype(np.float64) - weight
    return float((error * (moment @ error)).sum())


@FEW
@given(st.integers(0, 10_000), st.integers(1, 40), st.floats(1e-6, 1e6))
def test_nearest_is_within_half_a_step_and_uses_the_whole_symmetric_range(
    seed: int, size: int, magnitude: float
) -> None:
    weight = np.random.default_rng(seed).standard_normal((size, 4)) * magnitude
    scale = np.abs(weight).max(axis=0) / STEPS
    coded = nearest(weight, scale)
    assert coded.dtype == np.int8
    assert (np.abs(coded.astype(int)).max(axis=0) == STEPS).all()
    assert (np.abs(coded * scale - weight) <= scale / 2 * (1 + 1e-9)).all()


def test_nearest_clips_to_minus_127_never_to_minus_128() -> None:
    coded = nearest(np.array([[-300.0, 300.0]]), np.array([1.0, 1.0]))
    assert coded.tolist() == [[-127, 127]]


@FEW
@given(st.integers(0, 10_000), st.integers(2, 40), st.booleans())
def test_scales_never_do_worse_than_the_largest_weight_does(seed: int, size: int, weighted: bool) -> None:
    weight, moment = drawn(seed, size, 200, 1.0)
    weighing = moment if weighted else np.eye(size)
    scale = column_scales(weight, moment if weighted else None)
    whole = (np.abs(weight).max(axis=0) / STEPS).astype(np.float32)
    chosen = output_error(weight, nearest(weight, scale), scale, weighing)
    # 1e-4: the scale is rounded to float32 after it was chosen
    assert chosen <= output_error(weight, nearest(weight, whole), whole, weighing) * (1 + 1e-4)
    assert (scale <= whole * (1 + 1e-6)).all()
    assert (scale >= whole * min(SHRINKS) * (1 - 1e-6)).all()


def test_scales_clip_a_column_where_its_largest_weight_is_alone() -> None:
    rng = np.random.default_rng(0)
    column = rng.standard_normal(4000) * 0.5
    column[0] = 4.0
    scale = column_scales(column[:, None], None)
    assert scale[0] < 0.99 * 4.0 / STEPS


def test_scales_of_a_zero_column_are_positive() -> None:
    scale = column_scales(np.zeros((3, 2)), np.eye(3))
    assert (scale > 0).all()
    assert (nearest(np.zeros((3, 2)), scale) == 0).all()


@FEW
@given(st.integers(0, 10_000), st.integers(1, 150), st.floats(0.0, 3.0))
def test_compensation_never_costs_more_than_a_little(seed: int, size: int, correlation: float) -> None:
    weight, moment = drawn(seed, size, 4 * size + 50, correlation)
    scale = column_scales(weight, moment)
    plain = output_error(weight, nearest(weight, scale), scale, moment)
    coded = gptq_rounded(weight, scale, moment, 4 * size + 50)
    assert coded.dtype == np.int8
    assert np.abs(coded.astype(int)).max() <= STEPS
    # it is greedy, so it has no guarantee; one part in ten is more than was ever seen
    assert output_error(weight, coded, scale, moment) <= 1.1 * plain


@pytest.mark.parametrize("size", [8, 63, 64, 65, 130])
def test_compensation_helps_where_inputs_are_correlated(size: int) -> None:
    weight, moment = drawn(1, size, 4000, 3.0)
    scale = column_scales(weight, moment)
    plain = output_error(weight, nearest(weight, scale), scale, moment)
    assert output_error(weight, gptq_rounded(weight, scale, moment, 4000), scale, moment) < 0.9 * plain


@pytest.mark.parametrize("size", [5, 64, 100])
def test_compensation_of_uncorrelated_inputs_is_rounding_to_nearest(size: int) -> None:
    weight, _ = drawn(2, size, 10, 0.0)
    scale = column_scales(weight)
    diagonal = np.diag(np.random.default_rng(2).uniform(0.1, 5.0, size))
    np.testing.assert_array_equal(gptq_rounded(weight, scale, diagonal, 10_000), nearest(weight, scale))


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_the_block_size_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    weight, moment = drawn(3, 130, 900, 2.0)
    scale = column_scales(weight, moment)
    expected = gptq_rounded(weight, scale, moment, 900)
    monkeypatch.setattr(weights_module, "BLOCK", block)
    np.testing.assert_array_equal(gptq_rounded(weight, scale, moment, 900), expected)


def test_the_order_of_the_inputs_does_not_change_the_result() -> None:
    weight, moment = drawn(4, 70, 900, 2.0)
    scale = column_scales(weight, moment)
    order = np.random.default_rng(0).permutation(70)
    permuted = gptq_rounded(weight[order], scale, moment[np.ix_(order, order)], 900)
    np.testing.assert_array_equal(permuted, gptq_rounded(weight, scale, moment, 900)[order])


@pytest.mark.parametrize("rows", [1, 2, 10])
def test_few_rows_do_not_wreck_the_weights(rows: int) -> None:
    """The moment of few rows is singular; judged on inputs that were not seen, it must do no great harm."""
    weight, full = drawn(5, 60, 5000, 1.0)
    rng = np.random.default_rng(6)
    seen = rng.multivariate_normal(np.zeros(60), full, rows)
    scale = column_scales(weight)
    coded = gptq_rounded(weight, scale, seen.T @ seen / rows, rows)
    plain = output_error(weight, nearest(weight, scale), scale, full)
    assert output_error(weight, coded, scale, full) <= 1.5 * plain


def test_an_input_that_is_always_zero_is_no_trouble() -> None:
    weight, moment = drawn(7, 20, 500, 1.0)
    moment[3], moment[:, 3] = 0.0, 0.0
    scale = column_scales(weight, moment)
    coded = gptq_rounded(weight, scale, moment, 500)
    assert np.abs(coded.astype(int)).max() <= STEPS
    assert np.abs(gptq_rounded(weight, scale, np.zeros((20, 20)), 500).astype(int)).max() <= STEPS


def test_a_moment_that_rounding_made_indefinite_is_damped_until_it_serves() -> None:
    weight, _ = drawn(8, 30, 100, 0.0)
    moment = -1e-7 * np.eye(30)
    scale = column_scales(weight)
    np.testing.assert_array_equal(gptq_rounded(weight, scale, moment, 1), nearest(weight, scale))
