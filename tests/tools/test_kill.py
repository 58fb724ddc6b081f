"""A short run of the kill test: after SIGKILL the output is absent or complete, and the next run succeeds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import kill_test
from vit_edge.errors import IntegrityError

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the kill test forks, which POSIX systems do")


def test_a_killed_run_leaves_no_broken_bundle(tmp_path: Path) -> None:
    """Writing alone; `python -m tools.kill_test build` does the same to whole builds, in minutes."""
    report, kills = tmp_path / "kills.json", 4
    words = [sys.executable, "-m", "tools.kill_test", "bundle", "--kills", str(kills), "--json", str(report)]
    result = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr
    found = json.loads(report.read_text())
    assert len(found) == kills
    assert {each["output"] for each in found} <= {"absent", "complete"}
    assert f"{kills} kills: " in result.stdout


def test_a_broken_bundle_would_be_noticed(tmp_path: Path) -> None:
    kill_test.bundle_job().run(tmp_path)
    assert kill_test.output_of(tmp_path) == "complete"
    (tmp_path / "bundle" / "README.md").write_text("half of")
    with pytest.raises(IntegrityError):
        kill_test.output_of(tmp_path)


def test_a_file_that_the_manifest_does_not_list_would_be_noticed(tmp_path: Path) -> None:
    kill_test.bundle_job().run(tmp_path)
    (tmp_path / "bundle" / "left.tmp").write_text("over")
    with pytest.raises(kill_test.Failure, match=r"left\.tmp"):
        kill_test.output_of(tmp_path)


def test_no_output_is_absent(tmp_path: Path) -> None:
    assert kill_test.output_of(tmp_path) == "absent"
