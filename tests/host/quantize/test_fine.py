"""The fine form of a linear layer: activations in two codes."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.arithmetic import exact_session
from tests.host.kernels.running import NEEDS_KERNELS, instructions, session
from tests.host.quantize.activations import activation_of
from tests.host.quantize.census import optimised
from vit_edge.arrays import Float32
from vit_edge.host.affine import Affine
from vit_edge.host.kernels.convert import to_kernels
from vit_edge.host.lower.graph import GraphWriter
from vit_edge.host.lower.linear import int8_linear
from vit_edge.host.plan import FineRange, LinearPlan
from vit_edge.host.quantize.fine import fine_range, with_fine
from vit_edge.host.quantize.plans import LayerPlans
from vit_edge.host.quantize.saturation import LIMIT
from vit_edge.host.quantize.types import Form
from vit_edge.host.quantize.weights import column_scales, nearest
from vit_edge.spec import PORTABLE, ActivationType, Arithmetic, ModelForm

__all__ = ["instructions"]
ROWS, OUT = 64, 24


def values(inputs: int, kind: str) -> Float32:
    """As behind a LayerNormalization, behind GELU, and all of one sign."""
    normal: Float32 = np.random.default_rng(3).normal(0, 1.5, (ROWS, inputs)).astype(np.float32)
    return {"both": normal, "gelu": normal.clip(min=-0.17), "negative": -np.abs(normal) - 0.1}[kind]


def plan_of(weight: Float32, x: Float32) -> LinearPlan:
    scale = column_scales(weight)
    reach = Affine.of(float(x.min()), float(x.max()))
    bias = np.random.default_rng(4).normal(size=OUT).astype(np.float32)
    return LinearPlan(reach, nearest(weight, scale), scale, bias)


def weight_of(inputs: int) -> Float32:
    return np.random.default_rng(5).normal(0, 0.1, (inputs, OUT)).astype(np.float32)


def layer(plan: LinearPlan, inputs: int, form: ModelForm = PORTABLE) -> onnx.ModelProto:
    w = GraphWriter(form)
    x = ir.Value(name="x", shape=ir.Shape((ROWS, inputs)), type=ir.TensorType(ir.DataType.FLOAT))
    made = int8_linear(w, x, plan, "fc")
    made.dtype, made.shape = ir.DataType.FLOAT, ir.Shape((ROWS, OUT))
    constants = list(w.initializers.values())
    graph = ir.Graph([x], [made], nodes=w.nodes, initializers=constants, opset_imports={"": 20}, name="layer")
    return ir.to_proto(ir.Model(graph, ir_version=10))


def error(plan: LinearPlan, x: Float32, form: ModelForm = PORTABLE) -> float:
    """Power of what rounding activations adds, the weights being what they are."""
    found = exact_session(layer(plan, x.shape[1], form).SerializeToString()).run(None, {"x": x})[0]
    weight = plan.weight * plan.weight_scale.astype(np.float64)
    exact = x.astype(np.float64) @ weight + np.asarray(plan.bias)
    return float(np.square(found - exact).sum())


@pytest.mark.parametrize("activations", [ActivationType.UINT8, ActivationType.INT8])
@pytest.mark.parametrize("kind", ["both", "gelu", "negative"])
@pytest.mark.parametrize("inputs", [2, 48, 256])
def test_it_errs_a_fifth_of_what_one_code_errs(inputs: int, kind: str, activations: ActivationType) -> None:
    """The steps are a twelfth; what the second weights' rounding adds and the room cost the rest."""
    x = values(inputs, kind)
    static = plan_of(weight_of(inputs), x)
    fine = dataclasses.replace(static, activation=fine_range(activation_of(x)))
    form = dataclasses.replace(PORTABLE, activations=activations)
    assert error(fine, x, form) < error(static, x, form) / 5**2


@pytest.mark.parametrize("kind", ["both", "gelu", "negative"])
def test_remainders_have_room_on_both_sides_of_the_zero_point(kind: str) -> None:
    fine = fine_range(activation_of(values(32, kind)))
    assert fine.parts <= fine.reach.zero_point <= 255 - fine.parts
    seen = values(32, kind)
    assert np.abs(fine.reach.rounded(seen) - seen).max() <= fine.reach.scale / 2 * (1 + 1e-4)


def test_onnxruntime_fuses_it_to_one_integer_product(tmp_path: Path) -> None:
    plan = plan_of(weight_of(48), values(48, "both"))
    fine = dataclasses.replace(plan, activation=FineRange(Affine(0.02, 128)))
    kinds = [node.op_type for node in optimised(layer(fine, 48), tmp_path).graph.node]
    assert kinds.count("QGemm") == 1
    assert not {"Gemm", "MatMul"}.intersection(kinds)


@NEEDS_KERNELS
def test_own_kernels_give_the_same(instructions: str) -> None:
    """Weights that no two products saturate, for the instruction set that adds in 16 bits."""
    x = values(48, "both")
    plan = plan_of(weight_of(48), x)
    halved = dataclasses.replace(plan, weight=(plan.weight // 2).astype(np.int8))
    portable = layer(dataclasses.replace(halved, activation=fine_range(activation_of(x))), 48)
    native, _ = to_kernels(portable)
    expected = exact_session(portable.SerializeToString()).run(None, {"x": x})[0]
    assert "Linear" in [node.op_type for node in native.graph.node], instructions
    np.testing.assert_allclose(session(native).run(None, {"x": x})[0], expected, atol=1e-5)


def graph_of(weight: Float32, name: str) -> ir.Graph:
    x = ir.Value(name="x", shape=ir.Shape((ROWS, len(weight))), type=ir.TensorType(ir.DataType.FLOAT))
    constant = ir.Value(name="w", const_value=ir.tensor(weight, name="w"))
    constant.shape, constant.dtype = ir.Shape(weight.shape), ir.DataType.FLOAT
    node = ir.Node("vit_edge", "Linear", [x, constant], name=name)
    return ir.Graph([x], list(node.outputs), nodes=[node], initializers=[constant], name="g")


def fine_of(inputs: int, kind: Arithmetic, x: Float32) -> tuple[dict[Form, LinearPlan], LinearPlan]:
    """The forms that a layer has then, and its static one."""
    weight = weight_of(inputs)
    static = plan_of(weight, x)
    plans = LayerPlans({"fc": {Form.STATIC: static}}, {}, None, {}, {})
    made = with_fine(plans, plans, graph_of(weight, "fc"), {"fc": activation_of(x)}, kind)
    return dict(made.linears["fc"]), static


def test_where_sums_of_two_products_saturate_no_two_neighbours_of_it_do() -> None:
    """Large inputs of one sign and weights of one size: eight bits would pass the limit."""
    x = np.random.default_rng(1).uniform(0, 3, (ROWS, 32)).astype(np.float32)
    forms, static = fine_of(32, Arithmetic.SATURATING, x)
    fine = forms[Form.FINE]
    assert isinstance(fine.activation, FineRange)
    reach = fine.activation.reach
    codes = reach.codes(x)
    left = fine.activation.remainder(reach).codes(x - reach.values(codes))
    both = np.concatenate([codes, left], axis=1)
    weight = np.concatenate([fine.weight, fine.activation.second(fine.weight)]).astype(np.int64)
    pairs = both[:, ::2, None] * weight[::2] + both[:, 1::2, None] * weight[1::2]
    assert np.abs(pairs).max() <= LIMIT
    eight = static.weight.astype(int)
    whole = codes[:, ::2, None] * eight[::2] + codes[:, 1::2, None] * eight[1::2]
    assert np.abs(whole).max() > LIMIT, "nothing would have saturated, so nothing was shown"


def test_where_they_do_not_it_has_the_weights_of_the_static_form() -> None:
    forms, static = fine_of(32, Arithmetic.EXACT, values(32, "both"))
    np.testing.assert_array_equal(forms[Form.FINE].weight, static.weight)


def test_an_odd_number_of_inputs_has_none() -> None:
    forms, _ = fine_of(33, Arithmetic.EXACT, values(33, "both"))
    assert set(forms) == {Form.STATIC}
