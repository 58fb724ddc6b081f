"""INT8 models on x86-64 CPUs that add pairs of products in int16: predicted, and run on an emulated one.

Usage: python -m tools.saturation_check FLOAT.onnx INT8.onnx [...] --images DIR [--count N] -o FILE.json

For every INT8 model: which products saturate on these images, and the agreement with the float model and the
logit signal to noise ratio (dB) of

* exact: this machine, which must have integer kernels that do not saturate;
* predicted: saturating arithmetic in numpy, on any machine;
* emulated: onnxruntime's own AVX2 kernels, where qemu-x86_64 is installed.

Prediction and kernels differ by the rounding of float operators, which moves a quantized value by a step
where it lies next to the middle of two.
"""

import argparse
import importlib.metadata
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.arm64_parity.emulator import Job, logits_of, run_here, version_of
from tools.saturating_model import predict
from vit_edge.errors import UsageError, VitEdgeError
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.verify.metrics import agreement, logit_sqnr_db

Floats = npt.NDArray[np.floating[Any]]

EMULATOR = "qemu-x86_64"
LAUNCHER = (EMULATOR, "-cpu", "Haswell")  # AVX2 without VNNI
EXACT_FLAGS = {"avx512_vnni", "avx_vnni", "asimd"}


def main(words: list[str] | None = None) -> int:
    given = _parser().parse_args(words)
    try:
        record = checked(given.float, given.int8, given.images, given.count)
        given.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    except (VitEdgeError, OSError) as error:
        print(f"saturation_check: {error}", file=sys.stderr)
        return 2
    print(json.dumps(record["models"], indent=1))
    return 0


def checked(float_model: Path, int8_models: Sequence[Path], folder: Path, count: int) -> dict[str, Any]:
    """The figures of every INT8 model.

    Raises:
        UsageError: this machine's own integer kernels saturate, so that there is nothing to compare with.
    """
    machine = describe_machine()
    if not EXACT_FLAGS & set(machine.flags):
        raise UsageError("this machine has no VNNI, so its own INT8 answers are no reference: use another")
    images = list_images(folder).limited(count).paths
    reference = logits_of(run_here(Job(float_model, images)))
    return {
        "images": len(images),
        "machine": machine.to_json(),
        "emulator": f"{version_of(EMULATOR)}, {' '.join(LAUNCHER[1:])}" if shutil.which(EMULATOR) else None,
        "versions": {"onnxruntime": importlib.metadata.version("onnxruntime")},
        "models": {path.name: figures(path, images, reference) for path in int8_models},
    }


def figures(path: Path, images: Sequence[Path], reference: Floats) -> dict[str, Any]:
    """One INT8 model against the float model's logits, in each arithmetic."""
    print(f"{path.name}: {len(images)} images", file=sys.stderr, flush=True)
    exact = logits_of(run_here(Job(path, images)))
    prediction = predict(path, images)
    record: dict[str, Any] = {
        "exact": close(reference, exact),
        "predicted": close(reference, prediction.logits),
        "saturated": {name: float(f"{share:.3g}") for name, share in prediction.saturated.items() if share},
    }
    if shutil.which(EMULATOR):
        kernels = logits_of(run_here(Job(path, images), LAUNCHER))
        record["emulated"] = close(reference, kernels)
        record["emulated_is_exact"] = bool((kernels == exact).all())
        record["predicted_against_emulated"] = close(kernels, prediction.logits)
    return record


def close(reference: Floats, other: Floats) -> dict[str, float | None]:
    """Agreement in percent and signal to noise in dB, None where nothing differs."""
    ratio = logit_sqnr_db(reference, other)
    return {
        "agreement": round(agreement(reference, other), 2),
        "logit_sqnr_db": round(ratio, 2) if np.isfinite(ratio) else None,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="saturation_check", description=__doc__.splitlines()[0])
    parser.add_argument("float", type=Path, metavar="FLOAT.onnx")
    parser.add_argument("int8", type=Path, nargs="+", metavar="INT8.onnx")
    parser.add_argument("--images", type=Path, required=True, help="folder of images")
    parser.add_argument("--count", type=int, default=50, help="images used at most, spread over the folder")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file to write")
    return parser


if __name__ == "__main__":
    sys.exit(main())
