"""Biases that int32 would not hold in steps of products that are next to nothing."""

import numpy as np
import onnx_ir as ir
import pytest

from tests.arithmetic import exact_session
from vit_edge.arrays import Array, Float32
from vit_edge.host.affine import Affine
from vit_edge.host.lower.conv import int8_conv
from vit_edge.host.lower.graph import GraphWriter
from vit_edge.host.lower.linear import int8_linear, with_room
from vit_edge.host.plan import ConvPlan, LinearPlan
from vit_edge.host.quantize.weights import column_scales, nearest
from vit_edge.spec import PORTABLE

SMALL = (0.0, 1e-12, 1e-9)  # largest weight of a column, beside others of 0.1
BIAS = np.array([0.7, -1.3, 0.2], np.float32)


def file_of(w: GraphWriter, x: ir.Value, made: ir.Value, shape: tuple[int, ...]) -> bytes:
    made.dtype, made.shape = ir.DataType.FLOAT, ir.Shape(shape)
    constants = list(w.initializers.values())
    graph = ir.Graph([x], [made], nodes=w.nodes, initializers=constants, opset_imports={"": 20}, name="layer")
    data: bytes = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    return data


def linear(weight: Float32, x: Float32, reach: Affine) -> tuple[Array, Array]:
    """What the integer layer gives, and what it should."""
    scale = column_scales(weight)
    w = GraphWriter(PORTABLE)
    given = ir.Value(name="x", shape=ir.Shape(x.shape), type=ir.TensorType(ir.DataType.FLOAT))
    made = int8_linear(w, given, LinearPlan(reach, nearest(weight, scale), scale, BIAS), "fc")
    found = exact_session(file_of(w, given, made, (len(x), 3))).run(None, {"x": x})[0]
    return found, x @ weight + BIAS


@pytest.mark.parametrize("largest", SMALL)
def test_a_linear_layer_keeps_the_bias_of_a_column_of_next_to_nothing(largest: float) -> None:
    """Tolerance: steps of activations and weights in the two other columns."""
    rng = np.random.default_rng(0)
    weight = rng.uniform(-0.1, 0.1, (16, 3)).astype(np.float32)
    weight[:, 1] = largest * rng.uniform(-1, 1, 16)
    x = rng.normal(size=(8, 16)).astype(np.float32)
    found, expected = linear(weight, x, Affine.of(float(x.min()), float(x.max())))
    np.testing.assert_allclose(found[:, 1], expected[:, 1], rtol=1e-5)
    np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.parametrize("seen", [0.0, 1e-15, 1e-8])
def test_a_linear_layer_keeps_the_bias_where_calibration_saw_next_to_nothing(seen: float) -> None:
    """Its inputs are clipped to what was seen, so the bias alone is left."""
    weight = np.random.default_rng(1).uniform(-0.1, 0.1, (16, 3)).astype(np.float32)
    found, _ = linear(weight, np.zeros((4, 16), np.float32), Affine.of(0.0, seen))
    np.testing.assert_allclose(found, np.broadcast_to(BIAS, found.shape), rtol=1e-5)


@pytest.mark.parametrize("largest", SMALL)
def test_a_convolution_keeps_the_bias_of_a_channel_of_next_to_nothing(largest: float) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(1, 4, 6, 6)).astype(np.float32)
    scale = (np.array([0.1, max(largest, 1e-12), 0.1]) / 127).astype(np.float32)
    weight = rng.integers(-127, 128, (3, 4, 1, 1), np.int8)
    weight[1] *= largest > 0
    plan = ConvPlan(Affine.of(-4.0, 4.0), Affine.of(-4.0, 4.0), weight, scale, BIAS)
    w = GraphWriter(PORTABLE)
    given = ir.Value(name="x", shape=ir.Shape(x.shape), type=ir.TensorType(ir.DataType.FLOAT))
    made = int8_conv(w, given, plan, None, {}, "conv")
    found = exact_session(file_of(w, given, made, (1, 3, 6, 6))).run(None, {"x": x})[0]
    product = np.einsum("oi,bihw->bohw", weight[:, :, 0, 0] * scale[:, None], x)
    expected = product + BIAS[:, None, None]
    np.testing.assert_allclose(found[:, 1], expected[:, 1], rtol=1e-5)
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_codes_that_leave_room_stay_as_they_are() -> None:
    weight = np.random.default_rng(3).uniform(-0.1, 0.1, (16, 3)).astype(np.float32)
    scale = column_scales(weight)
    coded = nearest(weight, scale)
    same, scales = with_room(coded, scale, BIAS, 0.01)
    assert same is coded
    assert scales is scale


@pytest.mark.parametrize("axis", [0, 1])
def test_only_columns_without_room_change(axis: int) -> None:
    coded = np.full((3, 3), 100, np.int8)
    scale = np.array([1e-3, 1e-13, 1e-3], np.float32)
    changed, scales = with_room(coded, scale, BIAS, 1e-3, axis=axis)
    columns = changed if axis == 0 else changed.T
    assert (columns[[0, 2]] == 100).all()
    assert (columns[1] == 0).all()
    np.testing.assert_array_equal(scales[[0, 2]], scale[[0, 2]])
    assert abs(BIAS[1]) / (scales[1] * 1e-3) <= 2**30 * (1 + 1e-6)


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_a_bias_of_every_magnitude_fits_beside_its_products(factor: float) -> None:
    bias = BIAS * np.float32(factor)
    _, scale = with_room(np.full((2, 3), 127, np.int8), np.full(3, 1e-9, np.float32), bias, 1e-9)
    assert (np.abs(bias / (scale * 1e-9)) < 2**31 - 1).all()
