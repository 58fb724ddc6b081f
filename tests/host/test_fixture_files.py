"""The ONNX files that the device tests read are those that tools/make_fixtures.py makes."""

import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest

ROOT = Path(__file__).parent.parent.parent
FILES = sorted((ROOT / "tests" / "data").glob("*.onnx"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    subprocess.run([sys.executable, ROOT / "tools" / "make_fixtures.py", folder], check=True)
    return folder


def test_the_script_makes_these_files_and_no_others(made: Path) -> None:
    assert sorted(path.name for path in made.iterdir()) == [path.name for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_reproduced_byte_for_byte(made: Path, path: Path) -> None:
    assert (made / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "path", [p for p in FILES if not p.stem.startswith("bad_")], ids=lambda path: path.stem
)
def test_a_good_file_passes_the_onnx_checker_and_loads(path: Path) -> None:
    onnx.checker.check_model(onnx.load(path), full_check=True)
    onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
