"""One bundle of the embedded model for all tests of the main job."""

from pathlib import Path

import pytest

from tests.end_to_end.digits import Built
from tools.digits import make_folders
from vit_edge.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("build")
    make_folders(folder / "digits")
    words = [
        "build",
        str(ROOT / "models" / "digits_vit"),
        *("--calib", str(folder / "digits" / "calibration")),
        *("--data", str(folder / "digits" / "test")),
        *("--target", "cpu-x86-vnni"),
        *("--max-drop", "2"),
        *("--threads", "1"),
        *("--json", str(folder / "manifest.json")),
        *("-o", str(folder / "bundle")),
    ]
    status = main(words)
    return Built(folder / "bundle", folder / "digits", folder / "manifest.json", status)
