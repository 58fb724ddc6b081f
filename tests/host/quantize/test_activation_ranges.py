"""Ranges of activations: what every range must hold, and that the search beats the plain range."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from tests.host.quantize.activations import activation_of
from vit_edge.arrays import Float32
from vit_edge.host.affine import Affine
from vit_edge.host.plan import RowRange
from vit_edge.host.quantize.ranges import (
    LEVELS,
    probability_scale,
    row_range,
    search_static,
)

FEW = settings(max_examples=50, deadline=None, derandomize=True)
FINITE = st.floats(-1e6, 1e6, allow_subnormal=False)


def linear_error(values: Float32, restored: Float32, weight: Float32) -> float:
    return float(np.square((restored - values) @ weight, dtype=np.float64).sum())


@FEW
@given(FINITE, FINITE)
def test_a_static_range_holds_zero_exactly_and_both_ends_to_a_step(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    reach = Affine.of(low, high)
    assert 0 <= reach.zero_point <= LEVELS
    assert reach.scale > 0
    assert reach.rounded(np.zeros(1, np.float32))[0] == 0.0
    # the zero point is a whole step, so one end may lie half a step outside, and is clipped by that much
    ends = np.asarray([low, high], np.float32)
    assert (np.abs(reach.rounded(ends) - ends) <= reach.scale * 0.5001 + 1e-6 * np.abs(ends)).all()


@FEW
@given(FINITE, FINITE, st.integers(0, 1000))
def test_a_round_trip_inside_the_range_errs_by_half_a_step_at_most(a: float, b: float, seed: int) -> None:
    low, high = min(a, b, 0.0), max(a, b, 1e-3)
    reach = Affine.of(low, high)
    values = np.random.default_rng(seed).uniform(low, high, 200).astype(np.float32)
    # 1e-3 of a step: float32 division of values up to 255 steps
    assert (np.abs(reach.rounded(values) - values) <= reach.scale * 0.501 + 1e-6 * np.abs(values)).all()


@pytest.mark.parametrize(("low", "high"), [(-3.0, 5.0), (0.0, 0.7), (-8.0, 0.0), (2.0, 9.0), (-1e-3, 1e3)])
def test_a_round_trip_is_that_of_onnxruntime_bit_for_bit(low: float, high: float) -> None:
    reach = Affine.of(low, high)
    rng = np.random.default_rng(0)
    halves = (np.arange(-300, 300) + 0.5) * reach.scale
    values = np.concatenate([rng.normal(0, abs(high - low), 5000), halves]).astype(np.float32)
    np.testing.assert_array_equal(
        reach.rounded(values), _by_onnxruntime(values, reach.scale, reach.zero_point)
    )


def _by_onnxruntime(values: Float32, scale: float, zero_point: int) -> Float32:
    names = ["s", "z"]
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["x", *names], ["q"]),
        onnx.helper.make_node("DequantizeLinear", ["q", *names], ["y"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.asarray(scale, np.float32), "s"),
        onnx.numpy_helper.from_array(np.asarray(zero_point, np.uint8), "z"),
    ]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"]) for name in "xy"]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    restored: Float32 = session.run(None, {"x": values})[0]
    return restored


@FEW
@given(st.integers(0, 1000), st.sampled_from(["normal", "heavy tails", "gelu", "constant", "negative"]))
def test_the_search_never_does_worse_than_the_whole_range(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((64, 12)).astype(np.float32)
    values = {
        "normal": values,
        "heavy tails": values**5,
        "gelu": np.maximum(values, -0.1),
        "constant": np.ones_like(values),
        "negative": -np.abs(values),
    }[kind]
    weight = rng.standard_normal((12, 7)).astype(np.float32)
    whole = Affine.of(float(values.min()), float(values.max()))
    found, _ = search_static(activation_of(values), weight)
    before = linear_error(values, whole.rounded(values), weight)
    # 1e-6: both are float32 sums
    assert linear_error(values, found.rounded(values), weight) <= before * (1 + 1e-6) + 1e-12


def test_the_search_clips_a_lone_outlier_that_the_layer_hardly_reads() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((500, 8)).astype(np.float32)
    values[0, 0] = 400.0
    weight = rng.standard_normal((8, 4)).astype(np.float32)
    weight[0] = 1e-4
    assert search_static(activation_of(values), weight)[0].scale < 0.75 * 401 / LEVELS


def test_rows_behind_relu_are_one_sided_from_zero() -> None:
    values = np.maximum(np.random.default_rng(0).standard_normal((100, 30)), 0).astype(np.float32)
    found = row_range(activation_of(values))
    assert (found.low, found.one_sided) == (0.0, True)
    assert found.floor > 0


def test_rows_behind_gelu_are_one_sided_and_hold_its_minimum() -> None:
    x = np.random.default_rng(0).standard_normal((100, 60)) * 3
    values = (x * 0.5 * (1 + erf(x / np.sqrt(2)))).astype(np.float32)
    found = row_range(activation_of(values))
    assert found.one_sided
    reach = np.maximum(values.max(axis=1, keepdims=True), found.floor)
    assert (values / reach >= -found.low - 1e-6).all()


def test_symmetric_rows_use_both_signs_alike() -> None:
    values = np.random.default_rng(0).standard_normal((100, 30)).astype(np.float32)
    assert row_range(activation_of(values)) == RowRange()


@pytest.mark.parametrize("concentration", [0.0, 1.0, 4.0, 12.0])
def test_the_scale_of_probabilities_never_does_worse_than_one_255th(concentration: float) -> None:
    scores = np.random.default_rng(0).standard_normal((200, 50)) * concentration
    values = np.exp(scores - scores.max(axis=1, keepdims=True))
    values = (values / values.sum(axis=1, keepdims=True)).astype(np.float32)
    scale = probability_scale(activation_of(values))

    def error(step: float) -> float:
        coded = np.minimum(np.rint(values / np.float32(step)), LEVELS) * np.float32(step)
        return float(np.square(coded - values, dtype=np.float64).sum())

    assert 0 < scale <= 1 / LEVELS * (1 + 1e-6)
    assert error(scale) <= error(1 / LEVELS) * (1 + 1e-6)
    if concentration == 0.0:  # each is 1/50: a finer step resolves it
        assert scale < 1 / LEVELS


def test_the_scale_of_certain_attention_is_one_255th() -> None:
    assert probability_scale(activation_of(np.eye(20, dtype=np.float32))) == pytest.approx(1 / LEVELS)
