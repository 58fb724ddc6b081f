"""Lowered integer layers against the same integer arithmetic in numpy."""

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest

from tests.arithmetic import exact_session
from tests.host.quantize.small_vit import MEAN, NORMAL, STD, images, run
from vit_edge.host.affine import Affine
from vit_edge.host.lower.attention import Added, int8_core
from vit_edge.host.lower.embed import Patches, int8_embed
from vit_edge.host.lower.graph import GraphWriter
from vit_edge.host.lower.linear import int8_linear
from vit_edge.host.plan import AttentionPlan, EmbedPlan, LinearPlan, RowRange
from vit_edge.spec import InputForm

Array = npt.NDArray[np.float64]
ROUNDING = 3e-6  # float32 results of exact integer sums, relative to the largest


def given(name: str, shape: tuple[int, ...], kind: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(kind))


def model(w: GraphWriter, inputs: list[ir.Value], made: ir.Value, rank: int) -> onnx.ModelProto:
    made.dtype, made.shape = ir.DataType.FLOAT, ir.Shape([f"d{i}" for i in range(rank)])
    constants = list(w.initializers.values())
    graph = ir.Graph(
        inputs, [made], nodes=w.nodes, initializers=constants, opset_imports={"": 20}, name="layer"
    )
    return ir.to_proto(ir.Model(graph, ir_version=10))


def codes(values: npt.NDArray[np.float32], scale: float, zero: int, low: int, high: int) -> Array:
    coded = np.clip(np.rint(values / np.float32(scale)) + zero, low, high)
    return np.asarray(coded, np.float64) - zero


def close(found: npt.NDArray[np.float32], expected: Array, tolerance: float = ROUNDING) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def linear_plan(activation: Affine | RowRange, inputs: int, bias: bool) -> LinearPlan:
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (inputs, 11)).astype(np.int8)
    scale = rng.uniform(1e-3, 1e-2, 11).astype(np.float32)
    return LinearPlan(activation, weight, scale, rng.normal(size=11).astype(np.float32) if bias else None)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("inputs", [1, 24, 300])
@pytest.mark.parametrize("zero_point", [0, 93, 255])
def test_a_linear_layer_with_a_static_range(inputs: int, zero_point: int, bias: bool) -> None:
    plan = linear_plan(Affine(0.02, zero_point), inputs, bias)
    x = np.random.default_rng(1).normal(0, 2, (9, inputs)).astype(np.float32)
    scale = np.float32(0.02).astype(np.float64) * plan.weight_scale
    steps = np.rint((np.zeros(11) if plan.bias is None else plan.bias) / scale)
    expected = (codes(x, 0.02, zero_point, 0, 255) @ plan.weight + steps) * scale
    w, value = GraphWriter(), given("x", x.shape)
    close(run(model(w, [value], int8_linear(w, value, plan, "y"), 2), x), expected)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reach", [RowRange(), RowRange(0.25, True, 0.68), RowRange(0.0, True)])
def test_a_linear_layer_with_a_range_per_row(reach: RowRange, bias: bool) -> None:
    plan = linear_plan(reach, 24, bias)
    x = np.random.default_rng(1).normal(0, 2, (9, 24)).astype(np.float32)
    x[3] *= 1000.0
    x[4] *= 1e-3
    x[5] = 0.0
    if reach.one_sided:
        x = np.maximum(x, -reach.low * reach.floor).astype(np.float32)
    rows = (x if reach.one_sided else np.abs(x)).max(axis=1, keepdims=True)
    rows = np.maximum(rows, np.float32(reach.floor))
    step = (1.0 + reach.low) / 255.0
    coded = codes(x / rows, step, round(reach.low / step), 0, 255)
    expected = coded @ plan.weight * plan.weight_scale * np.float32(step) * rows
    expected = expected + (0.0 if plan.bias is None else plan.bias)
    w, value = GraphWriter(), given("x", x.shape)
    found = run(model(w, [value], int8_linear(w, value, plan, "y"), 2), x)
    assert np.isfinite(found).all()
    for row in range(9):  # each to its own size: the rows differ a million times
        close(found[row], expected[row], 1e-5)


@pytest.mark.parametrize("probability_scale", [None, 1 / 255, 1 / 1000])
@pytest.mark.parametrize("factor", [1.0, 0.37])
@pytest.mark.parametrize("biased", [False, True])
def test_attention(probability_scale: float | None, factor: float, biased: bool) -> None:
    rng = np.random.default_rng(2)
    q, k, v = (rng.normal(0, 1, (2, 3, 13, 8)).astype(np.float32) for _ in range(3))
    plan = AttentionPlan(Affine(0.03, 120), 0.025, 0.027, probability_scale)
    bias = rng.normal(0, 1, (3, 13, 13)).astype(np.float32) if biased else None
    w = GraphWriter()
    queries, keyed, valued = values = [given(letter, (2, 3, 13, 8)) for letter in "qkv"]
    attention = model(w, values, int8_core(w, queries, keyed, valued, plan, Added(factor, bias), "y")[0], 4)
    made = exact_session(attention.SerializeToString())
    found = made.run(None, {"q": q, "k": k, "v": v})[0]
    keys = codes(k, 0.025, 0, -128, 127).transpose(0, 1, 3, 2)
    scores = codes(q, 0.03, 120, 0, 255) @ keys * (np.float32(0.03) * np.float64(np.float32(0.025))) * factor
    scores = scores if bias is None else scores + bias
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    total = weights.sum(axis=-1, keepdims=True)
    step = probability_scale if probability_scale is not None else 1 / 255
    coded = codes((weights / total if probability_scale else weights).astype(np.float32), step, 0, 0, 255)
    mixed = coded @ codes(v, 0.027, 0, -128, 127) * (step * 0.027)
    expected = mixed if probability_scale is not None else mixed / total
    # exp differs in the last bit between libraries, which may move a probability to the next step
    moved = step * np.abs(v).max() / (1.0 if probability_scale is not None else total.min())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1.01 * moved)
    assert np.median(np.abs(found - expected)) <= ROUNDING * np.abs(expected).max()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("form", InputForm)
def test_the_patch_embedding_is_exact_in_the_pixels(form: InputForm, batch: int) -> None:
    patches = Patches(4, 2, 4, 8, 3, prefix=1, dim=7)
    rng = np.random.default_rng(3)
    weight = rng.integers(-127, 128, (3 * 4 * 8, 7)).astype(np.int8)
    table = rng.normal(0.3, 1.0, (9, 7)).astype(np.float32)
    plan = EmbedPlan(weight, rng.uniform(1e-3, 1e-2, 7).astype(np.float32), table)
    pixels = images(batch)
    blocks = pixels.reshape(batch, 4, 4, 2, 8, 3).transpose(0, 1, 3, 5, 2, 4).reshape(batch, 8, -1)
    expected = blocks.astype(np.float64) @ weight * plan.weight_scale * np.float32(1 / 255)
    x: npt.NDArray[np.generic] = pixels
    if form is InputForm.PIXEL_VALUES:
        normal = (pixels.astype(np.float32) / np.float32(255) - np.asarray(MEAN, np.float32)) / np.asarray(
            STD, np.float32
        )
        x = np.ascontiguousarray(normal.transpose(0, 3, 1, 2), dtype=np.float32)
    kind = ir.DataType.FLOAT if form is InputForm.PIXEL_VALUES else ir.DataType.UINT8
    w, value = GraphWriter(), given("x", x.shape, kind)
    made, rest = int8_embed(w, value, plan, patches, form, NORMAL)
    np.testing.assert_array_equal(rest[:1], table[:1])  # the prefix sees no patch
    found = run(model(w, [value], made, 3), x) + rest[1:]
    # the row that all patches share is rounded to a step of the accumulator
    step = plan.weight_scale.max() / 255
    np.testing.assert_allclose(found, expected + table[1:], rtol=0, atol=step + 1e-6 * np.abs(expected).max())
