"""The environments of the other quantizers: what is installed where, what it weighs, or why it is not there."""

import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tools.environments import make_venv
from vit_edge.errors import UsageError

CONSTRAINTS = Path(__file__).parent / "constraints.txt"
RECORD = "environment.json"
INSTALL_LIMIT_S = 1200.0
IMPORTS = 5  # timed, after one that is not

Make = Callable[[Path, Sequence[str]], None]


@dataclasses.dataclass(frozen=True)
class Environment:
    """One environment, and what is installed there.

    Args:
        name: of its folder.
        packages: as pip takes them, each with its version.
        module: what a user imports first; its import is timed.
    """

    name: str
    packages: tuple[str, ...]
    module: str


@dataclasses.dataclass(frozen=True)
class Installed:
    """What came of an environment. Without a reason it is there."""

    packages: tuple[str, ...]  # asked for
    reason: str | None  # why it is not there
    seconds: float  # of installing
    size_mb: float  # of all its files, pip's own among them
    import_s: float | None  # median, in a new process each
    versions: dict[str, str]  # of all that is installed

    def of_named(self) -> dict[str, str]:
        """Versions of the packages that were asked for, and of those that decide results everywhere."""
        asked = {_name(package) for package in self.packages}
        wanted = asked | {"numpy", "onnx", "onnxruntime", "torch", "transformers"}
        return {name: version for name, version in self.versions.items() if _plain(name) in wanted}


def prepare(environment: Environment, folder: Path, make: Make | None = None) -> Installed:
    """Make an environment below `folder`, or read what came of it when the same was asked for before.

    Args:
        environment: what is wanted.
        folder: of all environments; made where it does not exist.
        make: puts an environment with packages into a folder; pip by default.
    """
    place = folder / environment.name
    record = place / RECORD
    if record.is_file():
        known: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        if tuple(known["packages"]) == environment.packages:
            return Installed(**(known | {"packages": tuple(known["packages"])}))
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    began = time.monotonic()
    try:
        (make or _pip)(place, environment.packages)
        seconds = time.monotonic() - began
        made = Installed(
            environment.packages,
            None,
            seconds,
            _size(place) / 1e6,
            _import_time(place, environment.module),
            _versions(place),
        )
    except UsageError as error:
        made = Installed(environment.packages, str(error), time.monotonic() - began, 0.0, None, {})
    record.write_text(json.dumps(dataclasses.asdict(made), indent=1), encoding="utf-8")
    return made


def python_of(environment: Environment, folder: Path) -> Path:
    """The interpreter of an environment that is there."""
    return folder / environment.name / "bin" / "python"


def quiet_surroundings() -> dict[str, str]:
    """Environment variables for what runs there: one thread, nothing from this Python, nothing fetched or sent."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "OLIVE_DISABLE_TELEMETRY": "1",
        "PYTHONWARNINGS": "ignore",
    }


def _pip(place: Path, packages: Sequence[str]) -> None:
    make_venv(place, packages, quiet_surroundings(), CONSTRAINTS, INSTALL_LIMIT_S)


def _size(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file() and not path.is_symlink())


def _import_time(place: Path, module: str) -> float:
    """Seconds.

    Raises:
        UsageError: it cannot be imported, with the last line that it said.
    """
    command = [str(place / "bin/python"), "-c", f"import {module}"]
    times = []
    for _ in range(IMPORTS + 1):
        began = time.perf_counter()
        done = subprocess.run(command, env=quiet_surroundings(), capture_output=True, text=True, check=False)
        times.append(time.perf_counter() - began)
        if done.returncode:
            said = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
            raise UsageError(f"import {module} failed: {said}")
    return statistics.median(times[1:])


def _versions(place: Path) -> dict[str, str]:
    command = [str(place / "bin/python"), "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
    done = subprocess.run(command, env=quiet_surroundings(), capture_output=True, text=True, check=True)
    return {entry["name"]: entry["version"] for entry in json.loads(done.stdout)}


def _name(package: str) -> str:
    """Of `name[extra]==version`."""
    return _plain(package.partition("==")[0].partition("[")[0])


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
