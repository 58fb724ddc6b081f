"""Runs our INT8 files in OpenVINO, a second INT8 engine that shares no code with onnxruntime.

Usage: python -m tools.check_openvino --source SOURCE --calib DIR --data DIR -o results.json

Three questions. Do both engines agree on the same file, the portable one and that of the target? Is the
target's file, in OpenVINO, at least as fast as NNCF's own INT8 of the same model, and as close to the float
model? Latency is that of inference alone, one image, one thread, in one process in interleaved rounds.
NNCF takes part where it is installed (tools/peers-requirements.txt); OpenVINO is the extra `openvino`.

Exit status: 0 everything asked holds, 1 something does not, 2 bad input.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from tools.peers import openvino_tools
from tools.peers.inputs import images_of, version
from tools.peers.measure import Contender, Floats, all_logits, all_times, onnx_contender
from tools.peers.onnxruntime_tools import Calibration
from tools.peers.report import Measured, markdown, rounded, rows
from tools.peers.workshop import Made, Workshop, basis_of, package_digest
from vit_edge.cli.console import check_json, write_json
from vit_edge.errors import MissingExtraError, VitEdgeError
from vit_edge.host.bundling.images import BuildImages
from vit_edge.host.convert.export import export
from vit_edge.host.convert.int8 import quantized
from vit_edge.host.quantize.search import search_of
from vit_edge.host.quantize.types import Preset, QuantizeSettings
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.host.sources import Source, SourceOptions, resolve
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.measure.timing import Milliseconds, Rounds, ratios_to_first
from vit_edge.spec import InputForm
from vit_edge.targets import load_target
from vit_edge.verify.metrics import agreement, logit_sqnr_db

TARGETS = ("cpu", "openvino")  # the portable file, and the one that is made for this engine
LEAST_AGREEMENT = 98.0  # percent of images on which both engines must name the same class, same file
FULL = "f32"  # OpenVINO's word; what both engines compute in when they are compared with each other
FLOAT = "float32, onnxruntime"
TOOLS = ("vit-edge", "onnxruntime", "openvino", "nncf", "torch", "numpy")


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        check_json(given.output)
        if importlib.util.find_spec("openvino") is None:
            raise MissingExtraError("openvino", "openvino")
        result = check(given)
        write_json(given.output, rounded(result))
    except VitEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(markdown(result["rows"]))
    for name, answer in result["checks"].items():
        print(f"{name}: {answer}")
    return 0 if all(answer["holds"] for answer in result["checks"].values()) else 1


def check(given: argparse.Namespace) -> dict[str, Any]:
    """Make every model, run it in its engine, and answer the questions."""
    source = resolve(str(given.source), SourceOptions(crop_pct=given.crop_pct))
    images = images_of(given, source)
    workshop = Workshop(given.work, basis_of(source, images.calibration))
    peer = openvino_tools.installed() and not given.engines_only
    if not peer and not given.engines_only:
        print(f"{openvino_tools.NAME}: {openvino_tools.MISSING}", file=sys.stderr)
    contenders = gather(source, images, Preset(given.preset), workshop, peer=peer)
    before = os.getloadavg()
    rounds = Rounds(given.rounds, given.seconds)
    times = all_times(contenders, images.check.paths[0], source.preprocess, rounds)
    after = os.getloadavg()
    logits = all_logits(contenders, images.check, source.preprocess, _tell)
    measured = Measured(contenders, logits, images.check.targets, times)
    return {
        "model": {"name": source.name, "sha256": source.sha256},
        "preset": given.preset,
        "calibration": {"name": given.calib.resolve().name, "images": len(images.calibration)},
        "evaluation": {"name": images.check.name, "images": len(images.check)},
        "machine": describe_machine().to_json(),
        "versions": {tool: version(tool) for tool in TOOLS},
        "package_sha256": package_digest(),
        "latency": {"threads": 1, "batch": 1, "rounds": len(times), "load_average": [*before, *after]},
        "checks": answers([contender.name for contender in contenders], logits, times),
        "rows": rows(measured, openvino_tools.NAME),
    }


def gather(
    source: Source, images: BuildImages, preset: Preset, workshop: Workshop, *, peer: bool
) -> list[Contender]:
    """The float model first, then each INT8 file in each engine, then NNCF's where `peer` says so."""
    exported, ours = made(source, images.calibration, preset, workshop)
    contenders = [onnx_contender(FLOAT, exported, {})]
    for name in TARGETS:
        path, form = ours / f"{name}.onnx", load_target(name).form.input
        contenders.append(onnx_contender(f"{name}, onnxruntime", path, {}))
        contenders += _in_openvino(name, path, path.stat().st_size, form)
    if not peer:
        return contenders
    calibration = Calibration(images.calibration, source.preprocess)
    place, _ = openvino_tools.nncf_model(exported, calibration, workshop)
    size = sum((place / file).stat().st_size for file in openvino_tools.FILES)
    form = InputForm.PIXEL_VALUES
    return contenders + _in_openvino(openvino_tools.NAME, place / openvino_tools.FILES[0], size, form)


def made(source: Source, images: Sequence[Path], preset: Preset, workshop: Workshop) -> tuple[Path, Path]:
    """The float model as a file, and the folder with one quantization in the form of each target."""
    recipe = {"name": f"openvino-{preset.value}", "package": package_digest()}

    def build() -> Made:
        exported, _ = export(source)
        canonical = canonicalise(exported, source.name)
        settings = QuantizeSettings(preset, len(images), workshop.folder / "calibration")
        search = search_of(canonical, images, source.preprocess, settings, _step)
        found = search.first()
        files = {
            f"{name}.onnx": _bytes(quantized(search.canonical, found, load_target(name), source))
            for name in TARGETS
        }
        return Made({"float.onnx": _bytes(exported)} | files)

    place, _ = workshop.make(recipe, build)
    return place / "float.onnx", place


def answers(names: Sequence[str], logits: Sequence[Floats], times: Milliseconds) -> dict[str, dict[str, Any]]:
    """Each question with its figures, and whether what is asked holds.

    Args:
        names: of the contenders, the float model first.
        logits: (N, C) each.
        times: (rounds, contenders) ms.
    """
    found: dict[str, dict[str, Any]] = {}
    for target in TARGETS:
        here, there = (logits[names.index(f"{target}, {engine}")] for engine in ("onnxruntime", FULL))
        same = agreement(here, there)
        found[f"engines agree on {target}"] = {
            "agreement": same,
            "logit_sqnr_db": logit_sqnr_db(here, there),
            "at_least": LEAST_AGREEMENT,
            "holds": bool(same >= LEAST_AGREEMENT),
        }
    if openvino_tools.NAME not in names:
        return found
    ours, peer = names.index(TARGETS[1]), names.index(openvino_tools.NAME)
    ratio = ratios_to_first(times[:, [peer, ours]])[1]
    found["as fast as NNCF"] = {
        "ratio_to_nncf": ratio.median,
        "quartiles": list(ratio.quartiles),
        "holds": bool(ratio.median <= 1.0),
    }
    close = [agreement(logits[0], logits[index]) for index in (ours, peer)]
    found["as close to float as NNCF"] = {
        "agreement": close[0],
        "nncf": close[1],
        "logit_sqnr_db": logit_sqnr_db(logits[0], logits[ours]),
        "nncf_logit_sqnr_db": logit_sqnr_db(logits[0], logits[peer]),
        "holds": bool(close[0] >= close[1]),
    }
    return found


def _in_openvino(name: str, path: Path, size: int, form: InputForm) -> list[Contender]:
    """As OpenVINO runs it by default here, and in float32 beside INT8."""
    contenders = []
    for label, precision in ((name, None), (f"{name}, {FULL}", FULL)):
        engine = openvino_tools.OpenVino(path, precision)
        contenders.append(Contender(label, engine, form, size, {"inference_precision": engine.precision}))
    return contenders


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="check_openvino", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--source", type=Path, required=True, help="a Vision Transformer, as for vit-edge build"
    )
    parser.add_argument("--calib", type=Path, required=True, help="folder of calibration images")
    parser.add_argument("--data", type=Path, required=True, help="folder of images to run on")
    parser.add_argument("--preset", choices=[preset.value for preset in Preset], default="balanced")
    parser.add_argument("--calib-images", type=int, default=128, help="calibration images used at most")
    parser.add_argument("--limit", type=int, help="images to run on, at most")
    parser.add_argument("--crop-pct", type=float, help="replaces the source's own resize")
    parser.add_argument("--engines-only", action="store_true", help="leave NNCF out")
    parser.add_argument("--rounds", type=int, default=60, help="of latency, at least so many")
    parser.add_argument("--seconds", type=float, default=20.0, help="and at least so long")
    parser.add_argument("--work", type=Path, default=Path("build/openvino"), help="where models are kept")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file to write")
    return parser


def _bytes(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))


def _step(what: str, done: int, count: int) -> None:
    if done == count:
        print(f"  {what}: {count} done", file=sys.stderr, flush=True)


def _tell(done: int, total: int) -> None:
    if done % 100 == 0 or done == total:
        print(f"  ran {done} of {total} images", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
