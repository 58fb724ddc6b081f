"""INT8 models on x86-64 CPUs that add pairs of products in int16: predicted, and run on one or emulated.

Usage: python -m tools.saturation_check FLOAT.onnx INT8.onnx [...] --images DIR [--count N] -o FILE.json

For every INT8 model: which products saturate on these images, and the agreement with the float model and the
logit signal to noise ratio (dB) of

* exact: products added in int32, which onnxruntime is asked for where this CPU's own kernels saturate;
* predicted: saturating arithmetic in numpy, on any machine;
* saturating: onnxruntime's own AVX2 kernels, on this CPU where it has no VNNI, else in qemu-x86_64 where
  that is installed.

Prediction and kernels differ by the rounding of float operators, which moves a quantized value by a step
where it lies next to the middle of two.
"""

import argparse
import importlib.metadata
import json
import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.arm64_parity.emulator import Job, logits_of, run_here, version_of
from tools.saturating_model import predict
from vit_edge import Session, SessionSettings, read_model
from vit_edge.errors import ModelError, VitEdgeError
from vit_edge.host.quantize.observe import EXACT_OPTIONS
from vit_edge.runtime.device.machine import describe_machine, may_saturate
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.image.preprocess import load_pixels
from vit_edge.verify.metrics import agreement, logit_sqnr_db

Floats = npt.NDArray[np.floating[Any]]

EMULATOR = "qemu-x86_64"
LAUNCHER = (EMULATOR, "-cpu", "Haswell")  # AVX2 without VNNI


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
    """The figures of every INT8 model."""
    machine = describe_machine()
    images = list_images(folder).limited(count).paths
    reference = logits_of(run_here(Job(float_model, images)))
    return {
        "images": len(images),
        "machine": machine.to_json(),
        "saturating_kernels": _kernels(),
        "versions": {"onnxruntime": importlib.metadata.version("onnxruntime")},
        "models": {path.name: figures(path, images, reference) for path in int8_models},
    }


def figures(path: Path, images: Sequence[Path], reference: Floats) -> dict[str, Any]:
    """One INT8 model against the float model's logits, in each arithmetic."""
    print(f"{path.name}: {len(images)} images", file=sys.stderr, flush=True)
    exact = exact_logits(path, images)
    prediction = predict(path, images)
    record: dict[str, Any] = {
        "exact": close(reference, exact),
        "predicted": close(reference, prediction.logits),
        "saturated": {name: float(f"{share:.3g}") for name, share in prediction.saturated.items() if share},
    }
    if has_saturating_kernels():
        kernels = saturating_logits(path, images)
        record["saturating"] = close(reference, kernels)
        record["saturating_is_exact"] = bool((kernels == exact).all())
        record["saturating_against_exact"] = close(exact, kernels)
        record["predicted_against_saturating"] = close(kernels, prediction.logits)
    return record


def exact_logits(path: Path, images: Sequence[Path]) -> Floats:
    """(images, classes) with every product added in int32, on any CPU.

    Raises:
        ModelError: the file does not say how images are preprocessed.
    """
    model = read_model(path)
    if model.preprocess is None:
        raise ModelError(f"{path} does not say how images are preprocessed")
    session = Session(model, SessionSettings("cpu", threads=1, options=tuple(EXACT_OPTIONS.items())))
    return np.concatenate([session.run(load_pixels(image, model.preprocess)[None]) for image in images])


def has_saturating_kernels() -> bool:
    """Whether this machine can run them, by itself or emulated."""
    return may_saturate() or (platform.machine() == "x86_64" and shutil.which(EMULATOR) is not None)


def saturating_logits(path: Path, images: Sequence[Path]) -> Floats:
    """(images, classes) by onnxruntime's kernels for AVX2."""
    return logits_of(run_here(Job(path, images), () if may_saturate() else LAUNCHER))


def _kernels() -> str | None:
    """Where saturating kernels run, for the record."""
    if may_saturate():
        return "this CPU"
    return f"{version_of(EMULATOR)}, {' '.join(LAUNCHER[1:])}" if has_saturating_kernels() else None


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
