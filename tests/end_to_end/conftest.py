"""One bundle of the embedded model for all tests of the main job."""

from pathlib import Path

import pytest

from tests.brief import full_timing
from tests.end_to_end.digits import Built
from tests.shared import made_once
from tools.digits import make_folders
from vit_edge.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def built(folder_of_the_run: Path) -> Built:
    folder = made_once(folder_of_the_run / "digits_bundle", _build)
    status = int((folder / "status").read_text())
    return Built(folder / "out" / "bundle", folder / "digits", folder / "out" / "manifest.json", status)


def _build(folder: Path) -> None:
    """With as much time as a user gives it: which model runs by default follows from what is measured."""
    make_folders(folder / "digits")
    words = [
        "build",
        str(ROOT / "models" / "digits_vit"),
        *("--calib", str(folder / "digits" / "calibration")),
        *("--data", str(folder / "digits" / "test")),
        *("--target", "cpu-x86-vnni"),
        *("--max-drop", "2"),
        *("--threads", "1"),
        *("--json", str(folder / "out" / "manifest.json")),
        *("-o", str(folder / "out" / "bundle")),
    ]
    (folder / "out").mkdir()
    with full_timing():
        (folder / "status").write_text(str(main(words)))


@pytest.fixture(autouse=True, scope="session")
def _exports(exporter: None) -> None:
    """For every test of this folder."""
