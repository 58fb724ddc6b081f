"""A device tells by two products whether it adds them in 16 bits."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from vit_edge.errors import ProviderError
from vit_edge.runtime.device.machine import may_saturate
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.session import arithmetic as module
from vit_edge.runtime.session import placement
from vit_edge.runtime.session.arithmetic import arithmetic_of
from vit_edge.runtime.session.placement import as_this_cpu_needs
from vit_edge.runtime.session.session import SessionSettings
from vit_edge.spec import Arithmetic

CPU = SessionSettings("cpu")
COUNT = 48
HERE = Arithmetic.SATURATING if may_saturate() else Arithmetic.EXACT
ASKS_FOR_EXACT = (("session.x64quantprecision", "1"), ("session.qdqisint8allowed", "0"))


def probe() -> Any:
    """The ONNX model."""
    onnx = pytest.importorskip("onnx", reason="the model is made with the package onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    constants: dict[str, npt.NDArray[Any]] = {
        "scale": np.array(1 / 255, np.float32),
        "zero": np.array(0, np.uint8),
        "weights": np.full((COUNT, 1), 127, np.int8),
        "weight_scale": np.array(1 / (127 * COUNT), np.float32),
        "weight_zero": np.array(0, np.int8),
        "flat": np.array([-1, COUNT], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["pixels"], ["f"], to=kinds.FLOAT),
        helper.make_node("Mul", ["f", "scale"], ["u"]),
        helper.make_node("Reshape", ["u", "flat"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["x"]),
        helper.make_node("DequantizeLinear", ["weights", "weight_scale", "weight_zero"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("pixels", kinds.UINT8, [1, 4, 4, 3])],
        [helper.make_tensor_value_info("logits", kinds.FLOAT, [1, 1])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_the_probe_is_the_model_that_it_is_said_to_be() -> None:
    assert type(made := probe()).FromString(module._MODEL) == made


def test_this_cpu_does_what_its_flags_say() -> None:
    assert arithmetic_of(CPU) is HERE


def test_options_of_the_settings_make_products_exact_on_any_cpu() -> None:
    assert arithmetic_of(dataclasses.replace(CPU, options=ASKS_FOR_EXACT)) is Arithmetic.EXACT


@pytest.mark.parametrize(("options", "found"), [(ASKS_FOR_EXACT, Arithmetic.EXACT), ((), HERE)])
def test_options_of_the_model_file_hold(
    data: Path, options: tuple[tuple[str, str], ...], found: Arithmetic
) -> None:
    model = dataclasses.replace(read_model(data / "pixels.onnx"), session_options=options)
    assert arithmetic_of(CPU, model) is found


@pytest.mark.parametrize(
    ("saturates", "precise", "signed"),
    [(True, "1", "0"), (False, "0", "1")],
    ids=["a CPU that would saturate", "a CPU that would not"],
)
def test_exact_kernels_are_asked_for_only_where_others_saturate(
    monkeypatch: pytest.MonkeyPatch, saturates: bool, precise: str, signed: str
) -> None:
    monkeypatch.setattr(placement, "may_saturate", lambda: saturates)
    asked = {"session.x64quantprecision": "1", "session.qdqisint8allowed": "1"}
    made = {"session.x64quantprecision": precise, "session.qdqisint8allowed": signed}
    assert as_this_cpu_needs(asked.items()) == made


@pytest.mark.parametrize("options", [{}, {"session.qdqisint8allowed": "1"}])
def test_options_that_ask_for_no_exact_kernels_stay(options: dict[str, str]) -> None:
    assert as_this_cpu_needs(options.items()) == options


def test_a_device_that_gives_neither_is_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = module._MODEL.replace(bytes([127] * COUNT), bytes([90] * COUNT))
    assert wrong != module._MODEL
    monkeypatch.setattr(module, "_MODEL", wrong)
    assert arithmetic_of(dataclasses.replace(CPU, options=ASKS_FOR_EXACT)) is None


def test_a_provider_that_is_not_there_is_refused() -> None:
    with pytest.raises(ProviderError):
        arithmetic_of(SessionSettings("tensorrt"))
