"""Which file of a bundle `compare` judges, and against which accuracy the float model is held."""

from pathlib import Path

import numpy as np
import pytest

from tests.manifests import accuracy, bundle_of_files
from tests.runtime.conftest import SPEC, ToyModel
from vit_edge.bundle import Role
from vit_edge.cli import main
from vit_edge.errors import BundleError
from vit_edge.runtime.evaluate.compatible import read_quantized, stated_top1
from vit_edge.runtime.model.file import read_model

FLOAT, QUANTIZED, LOWERED = "onnx/model.onnx", "onnx/model_quantized.onnx", "onnx/model_board.onnx"
ROLES = {FLOAT: Role.FLOAT, QUANTIZED: Role.QUANTIZED, LOWERED: Role.LOWERED}
Output = pytest.CaptureFixture[str]


def bundle_of(folder: Path, toy_model: ToyModel, names: list[str], default: str, top1: float = 100.0) -> Path:
    files = {
        name: (toy_model(Path(name).name, ((index + 1) * np.eye(3)).tolist()).data, ROLES[name])
        for index, name in enumerate(names)
    }
    return bundle_of_files(folder / "bundle", files, default, SPEC, judged=accuracy(top1))


@pytest.mark.parametrize(
    ("names", "default", "judged"),
    [
        ([FLOAT, QUANTIZED], FLOAT, QUANTIZED),  # the float model runs by default, and is not what is judged
        ([FLOAT, QUANTIZED], QUANTIZED, QUANTIZED),
        ([FLOAT, QUANTIZED, LOWERED], LOWERED, LOWERED),
        ([FLOAT, QUANTIZED, LOWERED], FLOAT, QUANTIZED),
        ([FLOAT, LOWERED], FLOAT, LOWERED),
    ],
)
def test_of_a_bundle_the_int8_file_is_judged_whatever_runs_by_default(
    tmp_path: Path, toy_model: ToyModel, names: list[str], default: str, judged: str
) -> None:
    bundle = bundle_of(tmp_path, toy_model, names, default)
    assert read_quantized(bundle).path == bundle / judged


def test_compare_names_both_files_of_the_bundle(
    tmp_path: Path, toy_model: ToyModel, many: Path, capsys: Output
) -> None:
    bundle = bundle_of(tmp_path, toy_model, [FLOAT, QUANTIZED], FLOAT)
    assert main(["compare", str(bundle), str(bundle), "--data", str(many), "--max-drop", "5"]) == 0
    printed = capsys.readouterr().out
    assert str(bundle / FLOAT) in printed
    assert str(bundle / QUANTIZED) in printed


def test_a_bundle_without_an_int8_file_is_refused(tmp_path: Path, toy_model: ToyModel) -> None:
    with pytest.raises(BundleError, match="holds no INT8 model, so there is nothing to compare"):
        read_quantized(bundle_of(tmp_path, toy_model, [FLOAT], FLOAT))


def test_a_file_is_read_as_it_is(toy_model: ToyModel) -> None:
    path = toy_model("a.onnx").path
    assert read_quantized(path).sha256 == read_model(path).sha256
    assert stated_top1(path) is None


def test_a_float_model_far_below_what_its_bundle_states_is_suspect(
    tmp_path: Path, toy_model: ToyModel, many: Path, capsys: Output
) -> None:
    bundle = bundle_of(tmp_path, toy_model, [FLOAT, QUANTIZED], FLOAT)
    for name in ("red", "green"):
        for path in sorted((many / name).iterdir())[:40]:
            path.rename(many / "blue" / f"{name}-{path.name}")
    main(["compare", str(bundle), str(bundle), "--data", str(many)])
    assert "far below the 100.0 % that are stated for it: suspect its weights" in capsys.readouterr().out
