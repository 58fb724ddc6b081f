"""Files with operators of vit-edge-kernels load where these run, and are refused in a sentence elsewhere."""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper

from vit_edge import Session, SessionSettings, read_model
from vit_edge.errors import ModelError
from vit_edge.runtime.model import own_kernels
from vit_edge.spec import KERNELS_DOMAIN

FLOAT, UINT8 = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A classifier whose one product is an operator of ours."""
    nodes = [
        helper.make_node("Reshape", ["pixels", "flat"], ["x"]),
        helper.make_node(
            "Linear", ["x", "", "", "w", "ws", "b"], ["logits"], domain=KERNELS_DOMAIN, input_scale=1.0
        ),
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        "flat": np.asarray([-1, 48], np.int64),
        "w": np.ones((48, 2), np.int8),
        "ws": np.asarray([1.0, 2.0], np.float32),
        "b": np.zeros(2, np.int32),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pixels", UINT8, ["batch", 4, 4, 3])],
        [helper.make_tensor_value_info("logits", FLOAT, ["batch", 2])],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(KERNELS_DOMAIN, 1)]
    path = tmp_path / "native.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), path)
    return path


@pytest.mark.skipif(
    own_kernels.kernel_instructions() is None,
    reason="vit-edge-kernels does not run here: pip install ./kernels",
)
def test_a_file_runs_where_the_kernels_are(file: Path) -> None:
    model = read_model(file)
    assert model.own_kernels
    given = Session(model, SessionSettings("cpu")).run(np.full((3, 4, 4, 3), 2, np.uint8))
    assert given.tolist() == [[96.0, 192.0]] * 3


def test_a_file_is_refused_where_the_package_is_absent(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "vit_edge_kernels" else found(name, *rest),
    )
    with pytest.raises(
        ModelError, match="not installed; run: pip install vit-edge-kernels, or take the portable"
    ):
        read_model(file)


class Without:
    """A package whose library runs nothing on this CPU."""

    @staticmethod
    def instructions() -> None:
        return None


class Broken:
    """A package whose library does not load."""

    @staticmethod
    def instructions() -> str:
        raise OSError("wrong ELF class")


@pytest.mark.parametrize(
    ("package", "message"),
    [(Without, "instructions that this CPU lacks"), (Broken, "does not load .wrong ELF class")],
)
def test_a_file_is_refused_where_the_kernels_do_not_run(
    file: Path, package: type, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(importlib, "import_module", lambda _: package)
    with pytest.raises(ModelError, match=message):
        read_model(file)
    assert own_kernels.kernel_instructions() is None
