"""Rockchip's toolkit: builds a float file for one of its NPUs by the types and ranges that it is given."""

import dataclasses
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from vit_edge.errors import UsageError
from vit_edge.host.compilers.job import CompilerJob
from vit_edge.host.compilers.rockchip_layers import claims_of, integer_share
from vit_edge.host.hybrid.choose import Choice
from vit_edge.host.hybrid.products import Product, products_of
from vit_edge.manifest import CompiledRecord, compiled_name
from vit_edge.spec import TargetSpec

SUFFIX = ".rknn"
PACKAGE = "rknn-toolkit2"
SCRIPT = Path(__file__).with_name("rockchip_script.py")
_PLATFORM = "target_platform"
_MOST_SECONDS = 6 * 3600

Layers = list[dict[str, str]]


def build(job: CompilerJob, version: str) -> tuple[bytes, CompiledRecord]:
    """What the toolkit makes of a file: the `.rknn`, and what its table of layers says of it.

    Args:
        job: what to build.
        version: of the toolkit.

    Raises:
        UsageError: the toolkit fails, or the target is none of its.
    """
    model, made = job.folder / "model.onnx", job.folder / "made"
    job.folder.mkdir(parents=True)
    calibration = [job.folder / f"{index}.npy" for index in range(len(job.feeds))]
    for path, feed in zip(calibration, job.feeds, strict=True):
        np.save(path, next(iter(feed.values())))
    onnx.save(job.graph, model)
    told = job_of(model, platform_of(job.target), calibration) | asked_of(job.choice)
    layers = run_toolkit(job.python, told, made, "without --compiler the bundle holds what the toolkit takes")
    name = compiled_name(job.target.name, SUFFIX)
    record = record_of(name, version, layers, job.choice.narrow, products_of(job.graph))
    return (made / "model.rknn").read_bytes(), record


def platform_of(target: TargetSpec) -> str:
    """What the toolkit calls the device of a target.

    Raises:
        UsageError: the target is not one of the toolkit's.
    """
    options = dict(target.provider.options)
    if _PLATFORM not in options:
        raise UsageError(
            f"--target {target.name} says no provider option {_PLATFORM}; name one for Rockchip's NPUs"
        )
    return options[_PLATFORM]


def toolkit_version(python: Path, option: str) -> str:
    """Of the toolkit in an environment.

    Args:
        python: its interpreter.
        option: that named it.

    Raises:
        UsageError: there is no such interpreter, or it has no toolkit.
    """
    asked = f"from importlib.metadata import version; print(version('{PACKAGE}'))"
    try:
        done = _run([str(python), "-c", asked], 120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"{option} {python} cannot be run ({error}); name a Python interpreter") from None
    if done.returncode != 0:
        raise UsageError(f"{option} {python} has no {PACKAGE}; run: {python} -m pip install {PACKAGE}")
    return done.stdout.strip()


def run_toolkit(python: Path, job: Mapping[str, Any], out: Path, mend: str) -> Layers:
    """One job of the toolkit's script, whose docstring says what it names and writes.

    Args:
        python: the interpreter of the toolkit's environment.
        job: what to build, and from what.
        out: a folder for what the toolkit writes; made where it is not there.
        mend: what to do where it fails, an imperative clause.

    Returns:
        The compiler's table of layers.

    Raises:
        UsageError: the toolkit fails.
    """
    out.mkdir(parents=True, exist_ok=True)
    told = out / "job.json"
    told.write_text(json.dumps(dict(job)))
    try:
        done = _run([str(python), str(SCRIPT), str(told), str(out)], _MOST_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"{PACKAGE} fails ({error}); {mend}") from None
    if done.returncode != 0 or not (out / "case.json").is_file():
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise UsageError(f"{PACKAGE} fails ({last[:200]}); {mend}")
    layers: Layers = json.loads((out / "case.json").read_text())["layers"]
    return layers


def _run(command: list[str], seconds: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  the interpreter that the user names, no shell
        command, capture_output=True, text=True, timeout=seconds, check=False
    )


def job_of(
    model: Path, platform: str, calibration: Sequence[Path], images: Sequence[Path] = ()
) -> dict[str, Any]:
    """What every job of the script names.

    Args:
        model: a float ONNX file for one image.
        platform: what the toolkit calls the device.
        calibration: `.npy` files of images as the file takes them.
        images: the same of those that its simulator is to answer.
    """
    return {
        "model": str(model),
        "platform": platform,
        "calibration": [str(path) for path in calibration],
        "images": [str(path) for path in images],
    }


def asked_of(choice: Choice) -> dict[str, Any]:
    """Types and ranges as the script reads them."""
    ranges = {name: dataclasses.asdict(reach) for name, reach in choice.ranges.items()}
    return {"ranges": ranges, "narrow": list(choice.narrow)}


def record_of(
    path: str, version: str, layers: Layers, narrow: Sequence[str], products: Sequence[Product]
) -> CompiledRecord:
    """What a table of layers says of the products that were to be in 8 bits.

    Args:
        path: of what was built, in the bundle.
        version: of the toolkit.
        layers: its table.
        narrow: the products that were asked for in 8 bits.
        products: all of them.
    """
    return CompiledRecord(
        path=path,
        compiler=f"{PACKAGE} {version}",
        macs_in_8_bits=round(100 * integer_share(layers, products), 2),
        otherwise=claims_of(layers, set(narrow), products),
        on_the_cpu=left_to_cpu(layers),
    )


def left_to_cpu(layers: Layers) -> tuple[str, ...]:
    """Layers that the NPU does not compute, but for those that only take or give the file's own tensors."""
    edges = "InputOperator", "OutputOperator"
    return tuple(row["name"] for row in layers if row["target"] == "CPU" and row["operator"] not in edges)
