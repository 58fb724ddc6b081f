"""Runs one function of a recipe; started by the Python of the recipe's own environment, with numpy there.

python run.py RECIPE.py FUNCTION JOB.json SECONDS

JOB.json names what a quantizer is given: the float ONNX file, the Hugging Face folder, calibration images
as files and as pixel values. Leaves the files that the function writes in its folder, and result.json
beside JOB.json: the seconds that the function took, imports among them, those of the processor, the peak
memory of the process or of one that it started, and, where it failed, the kind and the first line of the
error. It is ended after so many SECONDS of the processor.
"""

import dataclasses
import importlib.util
import json
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np


@dataclasses.dataclass(frozen=True)
class Job:
    """What every recipe is given."""

    float_model: Path  # ONNX, input pixel_values float32 (batch, 3, H, W), output logits
    folder: Path  # of transformers
    images: Path  # folder of the calibration images, as files
    calibration: np.ndarray  # float32 (N, 3, H, W), the same images as the model sees them
    crop_pct: float | None  # of the preprocessing, where it is not the folder's own
    output: Path  # folder to write into


def main() -> None:
    recipe, function, place = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    limit = int(sys.argv[4])
    signal.signal(signal.SIGXCPU, _too_long)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, 2 * limit))
    given = json.loads(place.read_text(encoding="utf-8"))
    job = Job(
        Path(given["float_model"]),
        Path(given["folder"]),
        Path(given["images"]),
        np.load(given["calibration"], mmap_mode="r"),
        given["crop_pct"],
        Path(given["output"]),
    )
    began = time.perf_counter()
    error, late = None, False
    try:
        getattr(_loaded(recipe), function)(job)
    except LateError:
        late = True
    except Exception as problem:  # whatever a quantizer raises is its answer
        error = _said(problem)
    seconds = time.perf_counter() - began
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    result = {
        "error": error,
        "late": late,
        "seconds": seconds,
        "cpu_seconds": sum(each.ru_utime + each.ru_stime for each in used),
        "peak_mb": max(_own_peak(), used[1].ru_maxrss) * 1024 / 1e6,
    }
    place.with_name("result.json").write_text(json.dumps(result), encoding="utf-8")
    if error is not None:
        raise SystemExit(error)


def _own_peak() -> int:
    """KiB since this program began; what getrusage says of a process includes who started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0])


class LateError(BaseException):
    """The limit was reached; no quantizer's own handling of errors is to catch it."""


def _too_long(*_: object) -> None:
    raise LateError


def _loaded(path: Path) -> object:
    spec = importlib.util.spec_from_file_location(path.stem + "_recipe", path)
    assert spec is not None  # noqa: S101  the file is there
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _said(problem: Exception) -> str:
    """Its kind and first line."""
    lines = str(problem).strip().splitlines()
    return f"{type(problem).__name__}: {lines[0][:300]}" if lines else type(problem).__name__


if __name__ == "__main__":
    main()
