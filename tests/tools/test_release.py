"""What a release is made of: the same bytes whenever it is made, one version, checks that exist."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from vit_edge import __version__

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOW = ROOT / ".github" / "workflows" / "check.yml"
SHIPPED = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "vit_edge", "docs", "tools")

needs_hatchling = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None, reason="needs hatchling, which builds the wheel"
)


def copied(folder: Path, when: float, umask: int) -> Path:
    """The project's files elsewhere, as another clone at another time by another user would have them."""
    folder.mkdir(parents=True)
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod((0o777 if path.stat().st_mode & 0o100 else 0o666) & ~umask)
            os.utime(path, (when, when))
    return folder


def built(folder: Path) -> dict[str, str]:
    """File name -> SHA-256 of what hatchling makes of a folder."""
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder / "dist")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "dist").iterdir()}


@needs_hatchling
def test_two_builds_give_the_same_bytes(tmp_path: Path) -> None:
    first = built(copied(tmp_path / "one", 1_600_000_000, 0o022))
    second = built(copied(tmp_path / "another place", 1_700_000_000, 0o077))
    assert first == second
    assert sorted(first) == [f"vit_edge-{__version__}-py3-none-any.whl", f"vit_edge-{__version__}.tar.gz"]


@needs_hatchling
def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    folder = copied(tmp_path / "one", 1_600_000_000, 0o022)
    built(folder)
    [wheel] = (folder / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"vit_edge", f"vit_edge-{__version__}.dist-info"}
    assert {"vit_edge/py.typed", "vit_edge/targets/cpu.toml"} <= set(names)


def test_the_version_is_stated_once() -> None:
    assert "version" not in PROJECT
    assert "version" in PROJECT["dynamic"]
    stated = [
        path
        for path in ROOT.joinpath("vit_edge").rglob("*.py")
        if f'"{__version__}"' in path.read_text(encoding="utf-8")
    ]
    assert stated == [ROOT / "vit_edge" / "__init__.py"]


@pytest.fixture
def workflow() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML to read the workflow")
    found: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    return found


def test_every_script_that_the_public_checks_run_exists(workflow: dict[str, Any]) -> None:
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    scripts = {found[1] for step in steps for found in re.finditer(r"bash (\S+)", step.get("run", ""))}
    assert scripts == {
        f"tools/{name}" for name in ("check", "docs", "libraries_check", "wheel_check", "release")
    }
    assert all((ROOT / script).is_file() for script in scripts)


def test_every_python_that_the_package_names_is_checked(workflow: dict[str, Any]) -> None:
    named = {each.rpartition(" ")[2] for each in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", each)}
    assert set(workflow["jobs"]["check"]["strategy"]["matrix"]["python"]) == named


def test_nothing_is_published_that_was_not_checked(workflow: dict[str, Any]) -> None:
    jobs = workflow["jobs"]
    assert set(jobs["publish"]["needs"]) == {"distribution", "kernels"}
    assert set(jobs["distribution"]["needs"]) == {"check", "docs", "libraries", "wheel"}
