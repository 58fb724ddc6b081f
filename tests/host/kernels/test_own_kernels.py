"""Files with operators of vit-edge-kernels load where these run, and are refused in a sentence elsewhere."""

import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper
from PIL import Image

from tests.manifests import accuracy, bundle_of_files
from tests.runtime.conftest import SPEC, ToyModel, toy_model
from vit_edge import Session, SessionSettings, read_model
from vit_edge.bundle import Role
from vit_edge.cli import main
from vit_edge.errors import KernelsError, ModelError
from vit_edge.runtime.capabilities import Capabilities, fit_of
from vit_edge.runtime.model import own_kernels
from vit_edge.runtime.selftest.run import selftest
from vit_edge.spec import KERNELS_DOMAIN
from vit_edge.targets import load_target

__all__ = ["toy_model"]  # a fixture of the runtime's tests

ROOT = Path(__file__).resolve().parents[3]
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


NATIVE, PORTABLE = "onnx/model_native.onnx", "onnx/model_quantized.onnx"


@pytest.fixture
def bundle(tmp_path: Path, file: Path, toy_model: ToyModel) -> Path:
    """A bundle whose default model needs the kernels, beside its portable file."""
    portable = toy_model("portable.onnx", np.eye(3).tolist())
    files = {NATIVE: (file.read_bytes(), Role.LOWERED), PORTABLE: (portable.data, Role.QUANTIZED)}
    return bundle_of_files(tmp_path / "bundle", files, NATIVE, SPEC, judged=accuracy())


def test_the_portable_file_runs_in_place_of_a_default_that_does_not(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIT_EDGE_KERNELS", "none")
    model = read_model(bundle)
    assert model.path == bundle / PORTABLE
    assert model.instead_of is not None
    assert model.instead_of.endswith(f"{PORTABLE} runs in its place")
    assert model.instead_of in str(Session(model, SessionSettings("cpu")).placement)


def test_the_command_line_says_which_file_runs_in_place_of_which(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIT_EDGE_KERNELS", "none")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    assert main(["classify", str(bundle), str(tmp_path / "red.png"), "--json"]) == 0
    told = capsys.readouterr()
    assert "runs in its place" in told.err
    assert json.loads(told.out)


def test_a_model_that_is_named_is_not_replaced(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIT_EDGE_KERNELS", "none")
    with pytest.raises(KernelsError, match="instructions that this CPU lacks"):
        read_model(bundle, NATIVE)


def test_a_self_test_passes_over_what_does_not_run_here(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIT_EDGE_KERNELS", "none")
    case = [check for check in selftest(bundle).checks if check.name == f"answers of {NATIVE}"]
    assert [check.passed for check in case] == [None]
    assert case[0].found.startswith("not run here")


def test_a_target_of_such_files_does_not_fit_where_they_do_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    target = load_target("cpu-native")
    monkeypatch.setenv("VIT_EDGE_KERNELS", "none")
    fit = fit_of(target, Capabilities("Linux", "x86_64", frozenset(target.requires.flags_all)))
    assert [reason.partition(",")[0] for reason in fit.reasons] == ["needs the operators of vit-edge-kernels"]


def test_a_build_for_them_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIT_EDGE_KERNELS", "none")
    (tmp_path / "images").mkdir()
    for index in range(4):
        Image.new("RGB", (8, 8), (60 * index, 0, 0)).save(tmp_path / "images" / f"{index}.png")
    words = ["--calib", str(tmp_path / "images"), "--target", "cpu-native", "-o", str(tmp_path / "bundle")]
    assert main(["build", str(ROOT / "models" / "digits_vit"), *words]) == 2
    told = capsys.readouterr()
    assert "target cpu-native needs the operators of vit-edge-kernels" in told.err
    assert "export" not in told.err
    assert not (tmp_path / "bundle").exists()


def test_a_job_says_which_file_ran_in_place_of_which(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIT_EDGE_KERNELS", "none")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    words = ["classify", str(bundle), str(tmp_path / "red.png"), "-o", str(tmp_path / "rows.jsonl")]
    assert main(words) == 0
    assert "runs in its place" in capsys.readouterr().err
