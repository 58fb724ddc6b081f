"""The environments of the other quantizers: what is installed, what it weighs, or why it is not there."""

import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tools.environments import make_venv
from vit_edge.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
OURS = "vit-edge"  # is installed from this repository
CONSTRAINTS = Path(__file__).parent / "constraints.txt"
RECORD = "environment.json"
INSTALL_LIMIT_S = 2400.0
IMPORTS = 3  # timed, after one that is not

Make = Callable[[Path, Sequence[str]], None]


@dataclasses.dataclass(frozen=True)
class Environment:
    """One environment, and what is installed there.

    Args:
        name: of its folder.
        packages: as pip takes them, each with its version.
        module: what a user imports first; its import is timed.
        digest: of this repository's package, where that is installed: another one is another environment.
    """

    name: str
    packages: tuple[str, ...]
    module: str
    digest: str = ""


@dataclasses.dataclass(frozen=True)
class Installed:
    """What came of an environment. Without a reason it is there."""

    packages: tuple[str, ...]  # asked for
    module: str  # whose import is timed
    reason: str | None  # why it is not there
    size_mb: float  # of all its files, pip's own among them, without what Python compiles them to
    import_cpu_s: float | None  # of the processor, which a busy machine does not lengthen; median
    versions: dict[str, str]  # of all that is installed
    digest: str = ""  # of this repository's package, where that is installed

    def is_of(self, wanted: Environment) -> bool:
        """Whether this came of the same wish."""
        return (self.packages, self.module, self.digest) == (wanted.packages, wanted.module, wanted.digest)

    def of_named(self) -> dict[str, str]:
        """Versions of the packages that were asked for, and of those that decide results everywhere."""
        asked = {_name(package) for package in self.packages}
        wanted = asked | {"numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "torch", "transformers"}
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
        if known.keys() == {
            field.name for field in dataclasses.fields(Installed)
        }:  # and not of an older form
            found = Installed(**(known | {"packages": tuple(known["packages"])}))
            if found.is_of(environment):
                return found
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        (make or _pip)(place, environment.packages)
        made = Installed(
            environment.packages,
            environment.module,
            None,
            _size(place) / 1e6,
            import_time(place / "bin/python", environment.module),
            _versions(place),
            environment.digest,
        )
    except UsageError as error:
        made = Installed(
            environment.packages, environment.module, str(error), 0.0, None, {}, environment.digest
        )
    record.write_text(json.dumps(dataclasses.asdict(made), indent=1), encoding="utf-8")
    return made


def python_of(environment: Environment, folder: Path) -> Path:
    """The interpreter of an environment that is there."""
    return folder / environment.name / "bin" / "python"


def surroundings(python: Path) -> dict[str, str]:
    """Environment variables for what runs there: its own commands, one thread, nothing fetched or sent."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "OLIVE_DISABLE_TELEMETRY": "1",
        "PYTHONWARNINGS": "ignore",
    }


def _pip(place: Path, packages: Sequence[str]) -> None:
    words = [
        package.replace(OURS, str(ROOT)) if package.startswith(OURS) else package for package in packages
    ]
    make_venv(place, words, surroundings(place / "bin/python"), CONSTRAINTS, INSTALL_LIMIT_S)


def _size(place: Path) -> int:
    files = (path for path in place.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files if path.suffix != ".pyc")


def import_time(python: Path, module: str) -> float:
    """Seconds of the processor, user's and system's, for a new Python that imports a module and ends.

    Raises:
        UsageError: it cannot be imported, with the last line that it said.
    """
    times = []
    for _ in range(IMPORTS + 1):
        with tempfile.TemporaryFile("w+") as said:
            child = subprocess.Popen(
                [str(python), "-c", f"import {module}"], env=surroundings(python), stdout=said, stderr=said
            )
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode:
                said.seek(0)
                lines = said.read().strip().splitlines() or [f"status {child.returncode}"]
                raise UsageError(f"import {module} failed: {lines[-1]}")
        times.append(usage.ru_utime + usage.ru_stime)
    return statistics.median(times[1:])


def _versions(place: Path) -> dict[str, str]:
    python = place / "bin/python"
    command = [str(python), "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
    done = subprocess.run(command, env=surroundings(python), capture_output=True, text=True, check=True)
    return {entry["name"]: entry["version"] for entry in json.loads(done.stdout)}


def _name(package: str) -> str:
    """Of `name[extra]==version`."""
    return _plain(package.partition("==")[0].partition("[")[0])


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
