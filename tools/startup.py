"""How long a fresh process takes from nothing to the first prediction."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

PACKAGES = ("vit_edge", "numpy", "PIL", "onnxruntime")

_CHILD = """
import json, sys, time
begun = time.perf_counter()
from vit_edge import Classifier
imported = time.perf_counter()
classify = Classifier(sys.argv[1], threads=int(sys.argv[3]))
loaded = time.perf_counter()
classify(sys.argv[2])
print(json.dumps([imported - begun, loaded - imported, time.perf_counter() - loaded]))
"""


@dataclasses.dataclass(frozen=True)
class Startup:
    """Medians over fresh processes, in seconds."""

    import_s: float  # of the device API
    load_s: float  # the model, with all checks
    first_s: float  # the first prediction


def measure_startup(model: Path, image: Path, threads: int, processes: int, cold: bool) -> Startup:
    """Start processes one after another and take medians.

    Args:
        model: ONNX file or bundle.
        image: what to classify.
        threads: within one operator.
        processes: how many.
        cold: without cached bytecode, and with the files dropped from the page cache as far as the system
            allows.
    """
    with tempfile.TemporaryDirectory() as folder:
        times = []
        for number in range(processes):
            bytecode = Path(folder, str(number if cold else 0))
            if cold:
                _forget(model)
            times.append(_start([str(model), str(image), str(threads)], bytecode))
    # The first warm process is the one that compiles.
    return Startup(*map(float, np.median(times if cold else times[1:], axis=0)))


def _start(arguments: list[str], bytecode: Path) -> list[float]:
    environment = dict(os.environ, PYTHONPYCACHEPREFIX=str(bytecode))
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a warm start has bytecode
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    times: list[float] = json.loads(child.stdout)
    return times


def _forget(model: Path) -> None:
    """Ask the system to drop the files from its page cache; pages that another process maps stay."""
    if not hasattr(os, "posix_fadvise"):
        return
    for file in _files(model):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _files(model: Path) -> Iterator[Path]:
    if model.is_file():
        yield model
    folders = [model]
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        folders += map(Path, (spec.submodule_search_locations or []) if spec else [])
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.is_file())
