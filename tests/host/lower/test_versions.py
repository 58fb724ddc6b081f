"""Files at other opsets and IR versions: the same logits, and what an opset cannot say is refused."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.host.quantize.small_vit import NORMAL, PREPROCESS, images, proto, run, small, written
from vit_edge.errors import ModelError, TargetError
from vit_edge.host.convert.for_target import at_versions, check_target
from vit_edge.host.convert.optimize import CheckImages, optimized
from vit_edge.host.convert.runtimes import oldest_onnxruntime
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.lower.versions import proto_at
from vit_edge.host.plan import FLOAT, QuantPlan
from vit_edge.host.quantize.search import search_of
from vit_edge.host.quantize.types import Preset, QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.runtime.image.preprocess import normalize
from vit_edge.spec import OPSETS, WRITTEN, FloatType, InputForm, ModelForm, OnnxVersions, VersionsWanted
from vit_edge.targets import load_target

FLOAT32 = TensorProto.FLOAT
ALL = pytest.mark.parametrize("opset", OPSETS)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> tuple[Canonical, QuantPlan]:
    paths = written(tmp_path_factory.mktemp("calibration"), 8)
    search = search_of(small(), paths, PREPROCESS, QuantizeSettings(Preset.STATIC))
    return search.canonical, search.first().plan


def at(opset: int) -> OnnxVersions:
    return VersionsWanted(opset).over(WRITTEN)


def stated(model: onnx.ModelProto) -> tuple[int, int]:
    (opset,) = (each.version for each in model.opset_import if each.domain == "")
    return opset, model.ir_version


def kinds(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


@ALL
@pytest.mark.parametrize("tanh", [False, True], ids=["exact Gelu", "Gelu by tanh"])
def test_a_float_model_gives_the_same_logits_at_every_opset(opset: int, tanh: bool) -> None:
    canonical, chosen = small(), dataclasses.replace(FLOAT, tanh_gelu=tanh)
    given = normalize(images(3), PREPROCESS)
    reference = run(lower(canonical, LowerSettings(), chosen), given)
    model = lower(canonical, LowerSettings(ModelForm(versions=at(opset))), chosen)
    assert stated(model) == (opset, at(opset).ir)
    assert ("Gelu" in kinds(model)) == (opset >= 20)
    # one product more in the decomposed Gelu, in float32
    assert np.abs(run(model, given) - reference).max() <= 1e-5 * max(1.0, np.abs(reference).max())


@ALL
@pytest.mark.parametrize("form", InputForm)
def test_an_int8_model_gives_the_same_logits_at_every_opset(
    plan: tuple[Canonical, QuantPlan], opset: int, form: InputForm
) -> None:
    canonical, chosen = plan
    pixels = images(3)
    given = pixels if form is InputForm.PIXELS else normalize(pixels, PREPROCESS)
    settings = LowerSettings(ModelForm(None, form), NORMAL)
    reference = run(lower(canonical, settings, chosen), given)
    model = lower(
        canonical,
        dataclasses.replace(settings, form=ModelForm(None, form, versions=at(opset))),
        chosen,
    )
    assert stated(model)[0] == opset
    assert np.abs(run(model, given) - reference).max() <= 1e-5 * max(1.0, np.abs(reference).max())


@ALL
def test_parity_is_checked_at_the_opset_that_is_written(opset: int) -> None:
    form = ModelForm(versions=at(opset))
    model, parity = optimized(proto(), small(), form, CheckImages((16, 16)))
    assert stated(model) == (opset, at(opset).ir)
    assert parity.largest <= parity.allowed


@pytest.mark.parametrize("style", ["float", "int8"])
def test_every_layer_normalization_says_its_axis(plan: tuple[Canonical, QuantPlan], style: str) -> None:
    canonical, chosen = plan
    model = lower(canonical, LowerSettings(normalisation=NORMAL), FLOAT if style == "float" else chosen)
    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    assert norms
    for node in norms:
        assert [attribute.i for attribute in node.attribute if attribute.name == "axis"] == [-1]


def test_the_default_is_the_oldest_ir_version_of_its_opset() -> None:
    assert stated(lower(small(), LowerSettings())) == (20, 9)
    assert load_target("cpu").form.versions == WRITTEN


def test_a_stated_ir_version_is_written() -> None:
    assert stated(
        lower(small(), LowerSettings(ModelForm(versions=VersionsWanted(17, 10).over(WRITTEN))))
    ) == (17, 10)
    assert stated(
        lower(small(), LowerSettings(ModelForm(versions=VersionsWanted(None, 8).over(WRITTEN))))
    ) == (20, 8)


@pytest.mark.parametrize(
    ("opset", "ir", "said"),
    [
        (16, None, "opset must be 17 to 23, got 16"),
        (24, None, "opset must be 17 to 23, got 24"),
        (None, 7, "ir must be 8 to 11, got 7"),
        (20, 0, "ir must be 8 to 11, got 0"),
    ],
)
def test_versions_that_no_file_has_are_refused(opset: int | None, ir: int | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        VersionsWanted(opset, ir)


def test_a_target_whose_number_formats_the_opset_lacks_is_refused() -> None:
    for name, opset, said in (("qnn-htp", 20, "16 bits"), ("tensorrt", 18, "float16")):
        check_target(load_target(name))
        with pytest.raises(TargetError, match=f"{said}.*not in {opset}"):
            check_target(at_versions(load_target(name), VersionsWanted(opset)))


def test_half_precision_is_written_at_an_old_opset() -> None:
    settings = LowerSettings(ModelForm(float_type=FloatType.FLOAT16))
    given = normalize(images(2), PREPROCESS)
    reference = run(lower(small(), settings), given)
    old = lower(small(), LowerSettings(ModelForm(float_type=FloatType.FLOAT16, versions=at(17))))
    # Gelu in single steps rounds to 11 bits after each
    assert np.abs(run(old, given) - reference).max() <= 1e-2 * np.abs(reference).max()


def reduced(*, keep_empty: int | None, axes: list[int] | None) -> onnx.ModelProto:
    """ReduceMean of opset 20, of constant axes or of none."""
    node = helper.make_node("ReduceMean", ["x", *(["axes"] if axes else [])], ["y"], keepdims=1)
    if keep_empty is not None:
        node.attribute.append(helper.make_attribute("noop_with_empty_axes", keep_empty))
    stored = [] if axes is None else [helper.make_tensor("axes", TensorProto.INT64, [len(axes)], axes)]
    given = [helper.make_tensor_value_info("x", FLOAT32, [2, 3])]
    made = [helper.make_tensor_value_info("y", FLOAT32, [2, 1] if axes else [1, 1])]
    graph = helper.make_graph([node], "g", given, made, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


@pytest.mark.parametrize(("keep_empty", "axes"), [(None, [1]), (0, [-1]), (None, None), (0, None)])
def test_axes_become_an_attribute_below_opset_18(keep_empty: int | None, axes: list[int] | None) -> None:
    model = reduced(keep_empty=keep_empty, axes=axes)
    given = np.arange(6, dtype=np.float32).reshape(2, 3)
    old = proto_at(model, at(17), "m")
    onnx.checker.check_model(old, full_check=True)
    np.testing.assert_array_equal(run(old, given), run(model, given))


def test_a_reduction_that_an_old_opset_cannot_say_is_refused() -> None:
    with pytest.raises(ModelError, match=r"m: ReduceMean .*noop_with_empty_axes.* opset 17; ask for a newer"):
        proto_at(reduced(keep_empty=1, axes=None), at(17), "m")


def test_an_operator_that_an_old_opset_lacks_is_refused_by_name() -> None:
    node = helper.make_node("StringConcat", ["x", "x"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.STRING, [1]) for name in "xy"]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    with pytest.raises(ModelError, match="m: opset 19 has no StringConcat"):
        proto_at(model, at(19), "m")


def test_the_given_model_stays_as_it_is(tmp_path: Path) -> None:
    model = lower(small(), LowerSettings())
    before = model.SerializeToString(deterministic=True)
    proto_at(model, at(17), str(tmp_path))
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("opset", "ir", "kind", "said"),
    [
        (17, 8, "Gelu", "1.15 or newer, perhaps older (opset 17, IR 8)"),
        (17, 10, "Gelu", "1.18 or newer (opset 17, IR 10)"),
        (21, 10, "Gelu", "1.18 or newer (opset 21, IR 10)"),
        (21, 10, "QuantizeLinear", "1.20 or newer (opset 21, IR 10)"),
        (23, 11, "QuantizeLinear", "1.24 or newer (opset 23, IR 11)"),
        (12, 7, "Gelu", "which release is the oldest for opset 12, IR 7 was not tried"),
        (20, 99, "Gelu", "which release is the oldest for opset 20, IR 99 was not tried"),
    ],
)
def test_the_oldest_onnxruntime_is_told(opset: int, ir: int, kind: str, said: str) -> None:
    graph = helper.make_graph([helper.make_node(kind, ["x"], ["y"])], "g", [], [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    assert oldest_onnxruntime(model) == said
