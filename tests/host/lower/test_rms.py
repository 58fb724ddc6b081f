"""RMS normalization where squares cannot be held: files in half precision, and those for compilers."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.arithmetic import exact_session
from tests.host.quantize.small_vit import NORMAL, PREPROCESS, decibels, images, run, written
from tests.host.vit_families import FAMILIES
from tests.host.vit_forms import FORMS, Export, export_of
from vit_edge.arrays import Float32
from vit_edge.host.lower.full_integer import lower_full_integer
from vit_edge.host.lower.graph import GraphWriter
from vit_edge.host.lower.half import to_half
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.lower.tokens import rms_normed
from vit_edge.host.quantize.observe import logits
from vit_edge.host.quantize.search import search_of
from vit_edge.host.quantize.types import Preset, QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical, canonicalise
from vit_edge.host.rewrite.composites import RMS_NORM, composites
from vit_edge.spec import (
    ActivationType,
    Arithmetic,
    FloatType,
    GraphStyle,
    InputForm,
    ModelForm,
    OnnxVersions,
)

PLAIN = ModelForm(None, InputForm.PIXELS)
HALF = ModelForm(None, InputForm.PIXELS, float_type=FloatType.FLOAT16)
COMPILER = ModelForm(1, InputForm.PIXELS, style=GraphStyle.COMPILER)
ROWS, WIDTH, EPSILON = 5, 48, 1e-6


@functools.cache
def canonical_of(family: str) -> Canonical:
    made = canonicalise(export_of((FORMS | FAMILIES)[family], Export(False, 17, None)), family)
    assert next(composites(made.model.graph, RMS_NORM), None) is not None
    return made


@pytest.mark.parametrize("family", ["rms-written-out", "aimv2", "aimv2-native"])
def test_a_model_of_rms_norms_keeps_its_logits_in_half_precision(family: str) -> None:
    """40 dB, a hundredth: float16 keeps 11 bits."""
    pixels, canonical = images(12, seed=9), canonical_of(family)
    exact = run(lower(canonical, LowerSettings(PLAIN, NORMAL)), pixels)
    half = run(lower(canonical, LowerSettings(HALF, NORMAL)), pixels)
    assert np.square(half - exact).sum() < 1e-4 * np.square(exact).sum()


@pytest.mark.parametrize("family", ["rms-written-out", "aimv2"])
def test_a_file_for_compilers_normalises_by_one_layer_norm_of_both_signs(family: str) -> None:
    canonical = canonical_of(family)
    model = lower(canonical, LowerSettings(COMPILER, NORMAL))
    kinds = [node.op_type for node in model.graph.node]
    assert "Pow" not in kinds
    assert "LayerNormalization" in kinds
    pixels = images(4, seed=9)
    exact = run(lower(canonical, LowerSettings(PLAIN, NORMAL)), pixels)
    made = np.concatenate([run(model, pixels[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(made, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["rms-written-out", "aimv2"])
@pytest.mark.parametrize(("kind", "least"), [(ActivationType.UINT8, 9.0), (ActivationType.UINT16, 16.0)])
def test_a_file_of_integers_alone_holds_no_float_operator_and_stays_close(
    family: str, kind: ActivationType, least: float, tmp_path: Path
) -> None:
    """Decibels from float, the limits of a plain ViT of this size (test_full_integer)."""
    settings = QuantizeSettings(Preset.STATIC, arithmetics=(Arithmetic.INTEGER,))
    search = search_of(canonical_of(family), written(tmp_path, 24), PREPROCESS, settings)
    assert search.plan_set.full_integer is not None
    form = dataclasses.replace(COMPILER, activations=kind, versions=OnnxVersions(21, 10))
    model = lower_full_integer(search.canonical, LowerSettings(form, NORMAL), search.plan_set.full_integer)
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            assert {makers[name] for name in node.input if name in makers} <= {"DequantizeLinear"}
    unseen = list(images(16, seed=9))
    plain = lower(search.canonical, LowerSettings(COMPILER, NORMAL))
    exact = logits(plain.SerializeToString(), unseen)
    assert decibels(exact, logits(model.SerializeToString(), unseen)) > least


def normed(x: Float32, scale: Float32, form: ModelForm) -> Float32:
    w = GraphWriter(form)
    given = ir.Value(name="x", shape=ir.Shape(x.shape), type=ir.TensorType(ir.DataType.FLOAT))
    made = rms_normed(w, given, w.constant(scale, "scale"), EPSILON, "norm")
    made.dtype, made.shape = ir.DataType.FLOAT, ir.Shape(x.shape)
    constants = list(w.initializers.values())
    graph = ir.Graph([given], [made], nodes=w.nodes, initializers=constants, opset_imports={"": 20}, name="n")
    model = ir.Model(graph, ir_version=10)
    if form.float_type is FloatType.FLOAT16:
        to_half(model)
    proto: onnx.ModelProto = ir.to_proto(model)
    found: Float32 = exact_session(proto.SerializeToString()).run(None, {"x": x})[0]
    return found


@pytest.mark.parametrize("form", [PLAIN, HALF, COMPILER], ids=["float32", "half", "compiler"])
@pytest.mark.parametrize("reach", [1e-2, 1.0, 3e3, 1e4])
def test_rows_whose_squares_float16_cannot_hold_are_normalised_all_the_same(
    reach: float, form: ModelForm
) -> None:
    """65504 is its largest number, so that 256 squared is infinite there. Tolerance: its 11 bits, twice."""
    rng = np.random.default_rng(2)
    x = (rng.normal(size=(ROWS, WIDTH)) * reach + reach).astype(np.float32)
    scale = rng.uniform(0.5, 2.0, WIDTH).astype(np.float32)
    wide = x.astype(np.float64)
    expected = wide / np.sqrt(np.square(wide).mean(axis=1, keepdims=True) + EPSILON) * scale
    tolerance = 2**-10 if form is HALF else 1e-5
    np.testing.assert_allclose(
        normed(x, scale, form), expected, atol=tolerance * np.abs(expected).max(), rtol=0
    )
