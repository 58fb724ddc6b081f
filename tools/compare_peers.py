"""Our presets beside other INT8 quantizers: same machine, same images, same preprocessing, same float model.

Usage: python -m tools.compare_peers --source HF_FOLDER --calib DIR --data DIR -o results.json

The float model is what users make: transformers' ViT with SDPA attention through torch.onnx.export, dynamic
batch. It is the reference for agreement and for latency. Latency is that of inference alone, one image, one
thread, taken in one process in interleaved rounds. NNCF and OpenVINO take part where they are installed
(tools/peers-requirements.txt).
"""

import argparse
import json
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.peers import openvino_tools
from tools.peers.exported import SETTINGS, exported
from tools.peers.inputs import images_of, version
from tools.peers.measure import Contender, all_logits, all_times, onnx_contender
from tools.peers.onnxruntime_tools import Calibration, onnxruntime_models
from tools.peers.ours import presets
from tools.peers.report import Measured, markdown, rounded, rows
from tools.peers.workshop import Workshop, basis_of, package_digest
from vit_edge.errors import UsageError, VitEdgeError
from vit_edge.host.bundling.images import BuildImages
from vit_edge.host.quantize.types import Preset
from vit_edge.host.sources import Source, SourceOptions, resolve
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.measure.timing import Rounds
from vit_edge.spec import InputForm

TOOLS = ("vit-edge", "torch", "transformers", "onnx", "onnxruntime", "numpy", "pillow", "nncf", "openvino")


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        _check_output(given.output)
        chosen = presets_of(given.presets)
        result = compare(given, chosen)
    except VitEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _write(given.output, result)
    print(markdown(result["rows"]))
    return 0


def compare(given: argparse.Namespace, chosen: Sequence[Preset]) -> dict[str, Any]:
    """Make every model, measure it, and say on what."""
    source = resolve(str(given.source), SourceOptions(crop_pct=given.crop_pct))
    images = images_of(given, source)
    contenders, absent = gather(given.source, source, images, chosen, given.work)
    before = os.getloadavg()
    times = all_times(
        contenders, images.check.paths[0], source.preprocess, Rounds(given.rounds, given.seconds)
    )
    after = os.getloadavg()
    logits = all_logits(contenders, images.check, source.preprocess, _tell)
    measured = Measured(contenders, logits, images.check.targets, times)
    return {
        "model": {
            "name": source.name,
            "sha256": source.sha256,
            "preprocess": source.preprocess.to_json(),
        },
        "calibration": {"name": given.calib.resolve().name, "images": len(images.calibration)},
        "evaluation": {"name": images.check.name, "images": len(images.check)},
        "machine": describe_machine().to_json(),
        "versions": _versions(),
        "package_sha256": package_digest(),
        "latency": {
            "threads": 1,
            "batch": 1,
            "rounds": len(times),
            "load_average_before": before,
            "load_average_after": after,
        },
        "rows": rows(measured, openvino_tools.NAME) + absent,
    }


def presets_of(text: str) -> list[Preset]:
    """The presets in a comma-separated list."""
    known = {preset.value: preset for preset in Preset}
    names = text.split(",")
    for name in names:
        if name not in known:
            raise UsageError(f"--presets names {name!r}, which is not one of {', '.join(known)}")
    return [known[name] for name in names]


def gather(
    folder: Path, source: Source, images: BuildImages, chosen: Sequence[Preset], work: Path
) -> tuple[list[Contender], list[dict[str, Any]]]:
    """The contenders, the float model first, and a row for what is not installed."""
    workshop = Workshop(work, basis_of(source, images.calibration))
    calibration = Calibration(images.calibration, source.preprocess)
    float_model = exported(folder, workshop)
    contenders = [onnx_contender("float32 as exported", float_model, {"settings": SETTINGS})]
    made = presets(source, images.calibration, chosen, workshop)
    made += onnxruntime_models(float_model, calibration, workshop)
    contenders += [onnx_contender(*entry) for entry in made]
    if not openvino_tools.installed():
        return contenders, [{"name": openvino_tools.NAME, "note": openvino_tools.MISSING}]
    return contenders + _nncf(float_model, calibration, workshop), []


def _nncf(float_model: Path, calibration: Calibration, workshop: Workshop) -> list[Contender]:
    """As OpenVINO runs it by default here, and, where that is not float32, in float32 beside INT8."""
    place, info = openvino_tools.nncf_model(float_model, calibration, workshop)
    size = sum((place / name).stat().st_size for name in openvino_tools.FILES)
    contenders: list[Contender] = []
    for name, precision in ((openvino_tools.NAME, None), (f"{openvino_tools.NAME}, float32", "f32")):
        engine = openvino_tools.OpenVino(place / openvino_tools.FILES[0], precision)
        if all(engine.precision != other.info["inference_precision"] for other in contenders):
            said = info | {"engine": "OpenVINO", "inference_precision": engine.precision}
            contenders.append(Contender(name, engine, InputForm.PIXEL_VALUES, size, said))
    return contenders


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="compare_peers", description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="Hugging Face folder of a ViT classifier")
    parser.add_argument("--calib", type=Path, required=True, help="folder of calibration images")
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled images to evaluate on")
    parser.add_argument("--presets", default=",".join(preset.value for preset in Preset))
    parser.add_argument("--calib-images", type=int, default=128, help="calibration images used at most")
    parser.add_argument("--limit", type=int, help="evaluation images used at most")
    parser.add_argument("--crop-pct", type=float, help="replaces the folder's own resize")
    parser.add_argument("--rounds", type=int, default=60, help="of latency, at least so many")
    parser.add_argument("--seconds", type=float, default=30.0, help="and at least so long")
    parser.add_argument("--work", type=Path, default=Path("build/peers"), help="where models made are kept")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file to write")
    return parser


def _versions() -> dict[str, str]:
    return {tool: version(tool) for tool in TOOLS}


def _tell(done: int, total: int) -> None:
    if done % 100 == 0 or done == total:
        print(f"  evaluated {done} of {total} images", file=sys.stderr, flush=True)


def _check_output(path: Path) -> None:
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{path} cannot be written: name a JSON file in a folder that exists")


def _write(path: Path, result: dict[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        draft.write_text(json.dumps(rounded(result), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
