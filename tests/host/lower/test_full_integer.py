"""Models whose every operator is integer, for devices without floating point."""

import dataclasses
import importlib.util
from collections import Counter
from pathlib import Path

import onnx
import pytest

from tests.host.quantize.small_vit import NORMAL, PREPROCESS, decibels, images, small, written
from vit_edge.errors import ModelError
from vit_edge.host.lower.full_integer import MOVES, lower_full_integer
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.plan import FullIntegerPlan
from vit_edge.host.quantize.observe import logits
from vit_edge.host.quantize.search import search_of
from vit_edge.host.quantize.types import Preset, QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.spec import ActivationType, Arithmetic, GraphStyle, InputForm, ModelForm, OnnxVersions

VERSIONS = OnnxVersions(21, 10)  # activations of 16 bits need them
FORM = LowerSettings(ModelForm(1, InputForm.PIXELS, style=GraphStyle.COMPILER, versions=VERSIONS), NORMAL)
TYPES = (ActivationType.UINT8, ActivationType.INT8, ActivationType.UINT16)


def form_of(kind: ActivationType) -> LowerSettings:
    return dataclasses.replace(FORM, form=dataclasses.replace(FORM.form, activations=kind))


ROUND_TRIP = ("QuantizeLinear", "DequantizeLinear")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Canonical, FullIntegerPlan]:
    paths = written(tmp_path_factory.mktemp("calibration"), 24)
    search = search_of(
        small(), paths, PREPROCESS, QuantizeSettings(Preset.STATIC, arithmetics=(Arithmetic.INTEGER,))
    )
    assert search.plan_set.full_integer is not None
    return search.canonical, search.plan_set.full_integer


@pytest.mark.parametrize("kind", TYPES)
def test_every_operator_stands_between_round_trips(
    made: tuple[Canonical, FullIntegerPlan], kind: ActivationType
) -> None:
    model = lower_full_integer(made[0], form_of(kind), made[1])
    makers = {name: node for node in model.graph.node for name in node.output}
    readers: dict[str, list[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    for node in model.graph.node:
        if node.op_type in ROUND_TRIP:
            continue
        real = [makers[name].op_type for name in node.input if name in makers]
        assert set(real) <= {"DequantizeLinear"}, node.name
        assert [readers[name] for name in node.output] == [["QuantizeLinear"]] * len(node.output), node.name
    assert makers["logits"].op_type == "DequantizeLinear"


@pytest.mark.parametrize("kind", TYPES)
def test_operators_that_move_values_keep_the_scale(
    made: tuple[Canonical, FullIntegerPlan], kind: ActivationType
) -> None:
    model = lower_full_integer(made[0], form_of(kind), made[1])
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    takers = {name: node for node in model.graph.node for name in node.input}
    moved = [node for node in model.graph.node if node.op_type in MOVES]
    assert moved
    for node in moved:
        before = makers[node.input[0]]
        for name in node.output:
            after = takers[name]
            assert [arrays[x] for x in before.input[1:]] == [arrays[x] for x in after.input[1:]], node.name


@pytest.mark.parametrize("kind", TYPES)
def test_all_activations_have_the_type_that_was_asked_for(
    made: tuple[Canonical, FullIntegerPlan], kind: ActivationType
) -> None:
    model = lower_full_integer(made[0], form_of(kind), made[1])
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    types = Counter(
        str(arrays[node.input[2]].dtype) for node in model.graph.node if node.op_type == "QuantizeLinear"
    )
    assert set(types) == {kind.value}
    weights = [node for node in model.graph.node if node.op_type == "Gemm"]
    makers = {name: node for node in model.graph.node for name in node.output}
    assert {str(arrays[makers[node.input[1]].input[0]].dtype) for node in weights} == {"int8"}
    assert {str(arrays[makers[node.input[2]].input[0]].dtype) for node in weights} == {"int32"}


@pytest.mark.parametrize(("kind", "least"), [(TYPES[0], 9.0), (TYPES[1], 9.0), (TYPES[2], 16.0)])
def test_logits_stay_close_to_the_float_model(
    made: tuple[Canonical, FullIntegerPlan], kind: ActivationType, least: float
) -> None:
    unseen = list(images(16, seed=9))
    exact = logits(lower(made[0], FORM).SerializeToString(), unseen)
    model = lower_full_integer(made[0], form_of(kind), made[1])
    assert decibels(exact, logits(model.SerializeToString(), unseen)) > least


def test_sixteen_bits_are_closer_than_eight(made: tuple[Canonical, FullIntegerPlan]) -> None:
    unseen = list(images(16, seed=9))
    exact = logits(lower(made[0], FORM).SerializeToString(), unseen)
    wide, narrow = (
        decibels(
            exact, logits(lower_full_integer(made[0], form_of(kind), made[1]).SerializeToString(), unseen)
        )
        for kind in (ActivationType.UINT16, ActivationType.UINT8)
    )
    assert wide > narrow + 3


def test_zero_is_exact_in_every_range(made: tuple[Canonical, FullIntegerPlan]) -> None:
    model = lower_full_integer(made[0], FORM, made[1])
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            zero = int(arrays[node.input[2]])
            assert 0 <= zero <= 255


def test_a_tensor_that_was_not_observed_is_named(made: tuple[Canonical, FullIntegerPlan]) -> None:
    canonical, plan = made
    ranges = {name: reach for name, reach in plan.ranges.items() if name != "blocks.1.fc1"}
    with pytest.raises(ModelError, match=r"blocks\.1\.fc1 was not observed"):
        lower_full_integer(canonical, FORM, dataclasses.replace(plan, ranges=ranges))


def test_a_layer_without_weights_is_named(made: tuple[Canonical, FullIntegerPlan]) -> None:
    canonical, plan = made
    linears = {name: layer for name, layer in plan.linears.items() if name != "blocks.1.fc1"}
    with pytest.raises(ModelError, match=r"blocks\.1\.fc1 was not quantized"):
        lower_full_integer(canonical, FORM, dataclasses.replace(plan, linears=linears))


@pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime_qnn") is None, reason="onnxruntime-qnn is not installed (extra qnn)"
)
@pytest.mark.parametrize(("kind", "least"), [(TYPES[0], 10.0), (TYPES[1], 10.0), (TYPES[2], 20.0)])
def test_the_npu_takes_every_node(
    made: tuple[Canonical, FullIntegerPlan],
    kind: ActivationType,
    least: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its sums are rounded elsewhere than the CPU's, which 8 bits around outliers show."""
    from vit_edge.runtime.model.file import read_model
    from vit_edge.runtime.session.session import Session, SessionSettings

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "whole.onnx"
    path.write_bytes(lower_full_integer(made[0], form_of(kind), made[1]).SerializeToString())
    model = dataclasses.replace(read_model(path), preprocess=PREPROCESS)
    alone = SessionSettings("qnn", options=(("session.disable_cpu_ep_fallback", "1"),))
    pixels = images(8, seed=9)
    on_npu, on_cpu = Session(model, alone), Session(model, SessionSettings("cpu"))
    assert dict(on_npu.placement.shares) == {on_npu.placement.provider: 1.0}
    assert decibels(on_cpu.run(pixels), on_npu.run(pixels)) > least
