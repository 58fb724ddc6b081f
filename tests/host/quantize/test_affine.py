"""Scale, zero point and rounding: bit for bit the sums written out, and what onnxruntime computes."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.arithmetic import exact_session
from vit_edge.arrays import Float32
from vit_edge.host.affine import Affine, Integer, limits
from vit_edge.host.plan import EXPONENTIALS, RowRange

TYPES: tuple[Integer, ...] = (np.uint8, np.int8, np.uint16)
EACH_TYPE = pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: dtype.__name__)
ENDS = st.floats(-1e4, 1e4, width=32)
QUIET = settings(deadline=None, derandomize=True)


def drawn(seed: int, count: int = 4000) -> Float32:
    """float32 of very different sizes, so that some lie between two codes and some beyond all."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=count) * np.exp2(rng.integers(-8, 6, count))).astype(np.float32)


@QUIET
@given(ENDS, ENDS)
def test_a_range_holds_its_ends_and_zero(first: float, second: float) -> None:
    low, high = sorted((first, second))
    for dtype in TYPES:
        reach = Affine.of(low, high, dtype)
        ends = np.asarray([min(low, 0.0), 0.0, max(high, 0.0)])
        within = 0.5001 * reach.scale + 1e-6 * np.abs(ends)
        assert (np.abs(reach.rounded(ends) - ends) <= within).all()
        assert reach.rounded(ends)[1] == 0.0
        assert np.float32(reach.scale) == reach.scale


@QUIET
@given(ENDS, ENDS)
def test_the_zero_point_of_a_uint8_range_is_the_low_end_in_stored_steps(first: float, second: float) -> None:
    low, high = min(first, second, 0.0), max(first, second, 0.0)
    scale = float(np.float32(max((high - low) / 255, 1e-12)))
    assert Affine.of(low, high) == Affine(scale, int(np.clip(round(-low / scale), 0, 255)), np.uint8)


@QUIET
@given(ENDS, ENDS)
def test_the_zero_point_of_a_16_bit_range_may_be_that_of_the_exact_scale(first: float, second: float) -> None:
    low, high = min(first, second, 0.0), max(first, second, 0.0)
    scale = max((high - low) / 65535, 1e-12)
    zero = int(np.clip(round(-low / scale), 0, 65535))
    assert Affine.of(low, high, np.uint16, as_stored=False) == Affine(
        float(np.float32(scale)), zero, np.uint16
    )


@EACH_TYPE
@pytest.mark.parametrize("seed", range(4))
def test_codes_are_those_of_the_sums_written_out(dtype: Integer, seed: int) -> None:
    values = drawn(seed)
    reach = Affine.of(-3.0, 5.0 + seed, dtype)
    first, last = limits(dtype)
    codes = np.clip(np.rint(values / np.float32(reach.scale)) + reach.zero_point, first, last)
    np.testing.assert_array_equal(reach.codes(values), codes)
    np.testing.assert_array_equal(
        reach.rounded(values), (codes - reach.zero_point) * np.float32(reach.scale), strict=True
    )
    np.testing.assert_array_equal(reach.steps(values), values / reach.scale + reach.zero_point, strict=True)


@EACH_TYPE
def test_codes_are_those_of_quantize_linear(dtype: Integer) -> None:
    values, reach = drawn(9), Affine.of(-2.5, 7.0, dtype)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    constants = [
        helper.make_tensor("s", onnx.TensorProto.FLOAT, [], [reach.scale]),
        helper.make_tensor("z", kind, [], [reach.zero_point]),
    ]
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])],
        "round",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [values.size])],
        [helper.make_tensor_value_info("y", kind, [values.size])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (found,) = exact_session(model.SerializeToString()).run(None, {"x": values})
    np.testing.assert_array_equal(reach.codes(values).astype(dtype), found, strict=True)


@pytest.mark.parametrize("zero_point", [0, 1, 100, 128, 255])
def test_a_signed_range_has_the_same_steps_and_a_centred_one_holds_them(zero_point: int) -> None:
    given_range, values = Affine(0.03, zero_point), drawn(3)
    np.testing.assert_array_equal(given_range.signed().rounded(values), given_range.rounded(values))
    centred = given_range.centred()
    assert (centred.zero_point, centred.dtype) == (0, np.int8)
    held = given_range.values(np.asarray([0, 255]))
    assert np.abs(held).max() == pytest.approx(127 * centred.scale)


@pytest.mark.parametrize("largest", [0.0, 1e-3, 1.0, 417.25])
def test_a_symmetric_range_uses_127_steps_on_either_side(largest: float) -> None:
    reach = Affine.symmetric(largest)
    assert reach == Affine(float(np.float32(max(largest, 1e-12) / 127)), 0, np.int8)
    values = np.clip(drawn(5), -largest, largest)
    codes = np.clip(np.rint(values / np.float32(reach.scale)), -127, 127)
    np.testing.assert_array_equal(reach.codes(values), codes)


@pytest.mark.parametrize("low", [0.0, 0.25, 1.0])
def test_a_row_divided_by_its_reach_has_one_range(low: float) -> None:
    step = (1.0 + low) / 255.0
    assert RowRange(low).unit == Affine(step, round(low / step), np.uint8)


def test_exponentials_reach_the_last_code_at_one() -> None:
    assert EXPONENTIALS.codes(np.asarray([0.0, 1.0], np.float32)).tolist() == [0, 255]
