"""The forms of an INT8 file that targets ask for: for compilers, symmetric, in half precision."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.arithmetic import exact_session
from tests.host.quantize.forced import ROW_FIRST, STATIC_FIRST, Costs, quantized
from tests.host.quantize.small_vit import NORMAL, PREPROCESS, images, written
from vit_edge.arrays import Float32
from vit_edge.host.affine import Affine
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.ort import cpu_session
from vit_edge.host.plan import FLOAT, AttentionPlan, QuantPlan, RowRange
from vit_edge.host.quantize.types import QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.composites import ATTENTION, composites
from vit_edge.runtime.image.preprocess import normalize
from vit_edge.spec import ActivationType, Arithmetic, FloatType, GraphStyle, InputForm, ModelForm
from vit_edge.verify.metrics import logit_sqnr_db

INT8 = onnx.TensorProto.INT8
HALF = onnx.TensorProto.FLOAT16
CODES = ModelForm(style=GraphStyle.CODES)
SYMMETRIC = ModelForm(1, activations=ActivationType.INT8, symmetric=True)

PLANS = pytest.mark.parametrize("costs", [STATIC_FIRST, ROW_FIRST], ids=["static ranges", "row ranges"])
FORMS = pytest.mark.parametrize(("batch", "form"), list(itertools.product([None, 1, 3], InputForm)), ids=str)


Made = Callable[..., tuple[Canonical, QuantPlan]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The small model and its plan by stated costs, searched for once: writing leaves both unchanged."""
    folder = tmp_path_factory.mktemp("images")
    settings = QuantizeSettings(images=6, arithmetics=(Arithmetic.EXACT,))

    @functools.cache
    def once(row_first: bool) -> tuple[Canonical, QuantPlan]:
        costs = ROW_FIRST if row_first else STATIC_FIRST
        canonical, found = quantized(written(folder, 6), settings, costs, costs)
        return canonical, found.plan

    return lambda costs=STATIC_FIRST: once(costs is ROW_FIRST)


PIXELS = images(6, seed=5)  # like those calibrated on


def logits_of(model: onnx.ModelProto, pixels: np.ndarray = PIXELS) -> Float32:
    session = exact_session(model.SerializeToString())
    given = session.get_inputs()[0]
    feed = pixels if given.name == InputForm.PIXELS.value else normalize(pixels, PREPROCESS)
    count = given.shape[0] if isinstance(given.shape[0], int) else len(feed)
    parts = [feed[start : start + count] for start in range(0, len(feed), count)]
    logits: Float32 = np.concatenate([session.run(None, {given.name: part})[0] for part in parts])
    return logits


def sqnr(canonical: Canonical, model: onnx.ModelProto) -> float:
    """Of a form's logits to those of the float model, dB: two forms round apart, and neither is the truth."""
    return logit_sqnr_db(float_logits(canonical), logits_of(model))


@functools.cache
def float_logits(canonical: Canonical) -> Float32:
    return logits_of(written_as(canonical, ModelForm(1), FLOAT))


def written_as(canonical: Canonical, form: ModelForm, plan: QuantPlan) -> onnx.ModelProto:
    return lower(canonical, LowerSettings(form, NORMAL), plan)


def with_products(canonical: Canonical, plan: QuantPlan) -> QuantPlan:
    """The plan with integer attention, which so small a model does not choose."""
    attention = AttentionPlan(Affine(0.04, 120), 0.04, 0.04)
    names = [str(node.name) for node in composites(canonical.model.graph, ATTENTION)]
    return dataclasses.replace(plan, attentions=dict.fromkeys(names, attention))


def nodes(model: onnx.ModelProto, kind: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == kind]


def readers(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    return [each for each in model.graph.node if node.output[0] in each.input]


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@PLANS
@FORMS
def test_the_form_for_compilers_gives_nearly_the_same_logits(
    made: Made, costs: Costs, batch: int | None, form: InputForm
) -> None:
    """Only queries differ, which are signed and so rounded otherwise: at most 2 dB more noise."""
    canonical, plan = made(costs)
    plan = with_products(canonical, plan)
    kernels = written_as(canonical, ModelForm(batch, form), plan)
    compiler = written_as(canonical, ModelForm(batch, form, style=GraphStyle.COMPILER), plan)
    assert sqnr(canonical, compiler) > sqnr(canonical, kernels) - 2


@PLANS
@FORMS
def test_parts_that_leave_their_product_as_codes_give_the_same_logits(
    made: Made, costs: Costs, batch: int | None, form: InputForm
) -> None:
    """Steps are rounded from the same sums, which floating point scales otherwise: a tie may fall apart."""
    canonical, plan = made(costs)
    plan = with_products(canonical, plan)
    kernels = logits_of(written_as(canonical, ModelForm(batch, form), plan))
    codes = logits_of(written_as(canonical, ModelForm(batch, form, style=GraphStyle.CODES), plan))
    assert logit_sqnr_db(kernels, codes) > 40


def test_in_codes_the_product_is_a_conv_and_no_part_is_moved_as_float(made: Made, tmp_path: Path) -> None:
    canonical, plan = made(STATIC_FIRST)
    model = written_as(canonical, CODES, with_products(canonical, plan))
    packed = {
        name
        for name, layer in plan.linears.items()
        if name.endswith(("qkv", "kv")) and isinstance(layer.activation, Affine)
    }
    assert {node.name for node in nodes(model, "Conv")} == packed
    assert len(packed) > 1
    cpu_session(model.SerializeToString(), threads=1, optimised=tmp_path / "runs.onnx")
    runs = onnx.load(tmp_path / "runs.onnx")
    assert len(nodes(runs, "QLinearConv")) == len(packed)
    types = {info.name: info.type.tensor_type.elem_type for info in model.graph.value_info}
    moved = [output for node in nodes(model, "Split") for output in node.output]
    assert sum(types[output] == onnx.TensorProto.UINT8 for output in moved) >= 2 * len(packed)


@pytest.mark.parametrize(
    "changed",
    [
        lambda plan: dataclasses.replace(plan, attentions={}),
        lambda plan: dataclasses.replace(plan, linears={}),
        lambda plan: dataclasses.replace(
            plan,
            linears={
                name: dataclasses.replace(linear, activation=RowRange())
                for name, linear in plan.linears.items()
            },
        ),
    ],
    ids=["attentions in float", "products in float", "products with a range for each row"],
)
def test_what_has_no_one_range_for_product_and_attention_is_written_as_ever(
    made: Made, changed: Callable[[QuantPlan], QuantPlan]
) -> None:
    canonical, plan = made(STATIC_FIRST)
    plan = changed(with_products(canonical, plan))
    assert written_as(canonical, CODES, plan) == written_as(canonical, ModelForm(), plan)


def test_a_part_with_a_bias_far_beyond_its_range_ends_at_the_end_of_its_codes(made: Made) -> None:
    canonical, plan = made(STATIC_FIRST)
    plan = with_products(canonical, plan)
    far = {
        name: dataclasses.replace(linear, bias=linear.bias + np.float32(50))
        for name, linear in plan.linears.items()
        if linear.bias is not None and name.endswith(("qkv", "kv"))
    }
    assert far
    plan = dataclasses.replace(plan, linears=dict(plan.linears) | far)
    kernels, codes = (logits_of(written_as(canonical, form, plan)) for form in (ModelForm(), CODES))
    assert logit_sqnr_db(kernels, codes) > 40


def test_the_form_for_compilers_has_what_they_fuse(made: Made) -> None:
    canonical, plan = made()
    plan = with_products(canonical, plan)
    model = written_as(canonical, ModelForm(1, style=GraphStyle.COMPILER), plan)
    shapes = {info.name: len(info.type.tensor_type.shape.dim) for info in model.graph.value_info}
    types = constants(model)
    fused = [
        reader
        for norm in nodes(model, "LayerNormalization")
        for reader in readers(model, norm)
        if reader.op_type == "QuantizeLinear"
    ]
    assert any(shapes[reader.input[0]] == 3 for reader in fused)  # not flat, as behind a class token alone
    queries = [node for node in nodes(model, "QuantizeLinear") if "queries" in node.name]
    assert len(queries) == len(plan.attentions) > 0
    for node in queries:
        assert types[node.input[2]].dtype == np.int8
        assert types[node.input[2]] == 0
    keys = [n for n in nodes(model, "DequantizeLinear") if "keys" in n.name]
    assert {reader.op_type for node in keys for reader in readers(model, node)} == {"Transpose"}


def test_the_form_for_kernels_transposes_keys_as_integers(made: Made) -> None:
    canonical, plan = made()
    plan = with_products(canonical, plan)
    model = written_as(canonical, ModelForm(1), plan)
    keys = [n for n in nodes(model, "DequantizeLinear") if "keys" in n.name]
    assert keys
    assert {reader.op_type for node in keys for reader in readers(model, node)} == {"MatMul"}


@PLANS
def test_symmetric_activations_are_int8_around_zero_and_keep_the_logits(made: Made, costs: Costs) -> None:
    """Behind GELU half of the range is given up, which is worth a bit, or 6 dB: 20 dB is a tenth."""
    canonical, plan = made(costs)
    model = written_as(canonical, SYMMETRIC, plan)
    stored = constants(model)
    zeros = [stored[node.input[2]] for node in nodes(model, "QuantizeLinear")]
    assert zeros
    assert all(zero.dtype == np.int8 and zero == 0 for zero in zeros)
    assert sqnr(canonical, model) > sqnr(canonical, written_as(canonical, ModelForm(1), plan)) - 2


def test_symmetric_pixels_are_still_exact(made: Made) -> None:
    """Int8 around zero holds each pixel less 128, and the patch embedding's bias takes the 128 back."""
    canonical, plan = made()
    embedding = QuantPlan(embed=plan.embed)
    assert embedding.embed is not None
    unsigned = logits_of(written_as(canonical, ModelForm(1), embedding))
    symmetric = logits_of(written_as(canonical, SYMMETRIC, embedding))
    np.testing.assert_allclose(symmetric, unsigned, atol=2e-4)


@pytest.mark.parametrize("costs", [None, STATIC_FIRST, ROW_FIRST], ids=["float", "static", "row"])
@FORMS
def test_half_precision_keeps_the_logits_inputs_and_outputs(
    made: Made, costs: Costs | None, batch: int | None, form: InputForm
) -> None:
    """40 dB, a hundredth: float16 keeps 11 bits. Beside INT8, at most 1 dB more noise than in float32."""
    canonical, plan = made(costs or STATIC_FIRST)
    plan = plan if costs else FLOAT
    full = written_as(canonical, ModelForm(batch, form), plan)
    half = written_as(canonical, ModelForm(batch, form, float_type=FloatType.FLOAT16), plan)
    assert [v.type for v in half.graph.input] == [v.type for v in full.graph.input]
    assert half.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert [v.name for v in half.graph.output] == ["logits"]
    assert logits_of(half).dtype == np.float32
    assert sqnr(canonical, half) > (sqnr(canonical, full) - 1 if costs else 40)


@PLANS
def test_half_precision_halves_the_weights_and_keeps_softmax_in_full(made: Made, costs: Costs) -> None:
    canonical, plan = made(costs)
    half = written_as(canonical, ModelForm(1, float_type=FloatType.FLOAT16), FLOAT)
    types = {info.name: info.type.tensor_type.elem_type for info in half.graph.value_info}
    assert all(types[node.input[0]] == onnx.TensorProto.FLOAT for node in nodes(half, "Softmax"))
    assert all(types[node.input[0]] == HALF for node in nodes(half, "LayerNormalization"))
    assert all(types[node.output[0]] == HALF for node in nodes(half, "Gemm")[:-1])
    matrices = [array for array in constants(half).values() if array.ndim >= 2]
    assert matrices
    assert {array.dtype for array in matrices} == {np.dtype(np.float16)}
    quantized_too = written_as(canonical, ModelForm(1, float_type=FloatType.FLOAT16), plan)
    wide = [each for each in constants(quantized_too).values() if each.dtype == np.float32 and each.size > 1]
    assert wide == []  # single scales of what is measured per row are all that is left
    assert not [each for each in constants(quantized_too).values() if each.dtype == np.int32]


def test_a_row_of_zeros_stays_zero_in_half_precision(made: Made) -> None:
    """Its scale is the floor of 1e-12, which float16 would take for zero, and its reciprocal for infinity."""
    canonical, plan = made(ROW_FIRST)
    half = written_as(canonical, ModelForm(1, float_type=FloatType.FLOAT16), plan)
    assert np.isfinite(logits_of(half, np.zeros_like(PIXELS))).all()
