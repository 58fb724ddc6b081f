"""Runs INT8 files wholly on the NPU compiler and simulator that the plugin `onnxruntime-qnn` brings along.

Usage: python -m tools.check_qnn --source SOURCE --calib DIR --data DIR [--count N] -o results.json

The target's file, one for each type of activations alone, and the portable file beside them. Each is run
with the CPU as a fallback forbidden; where that is refused, it is run with it, and the share of nodes on the
NPU counts. `--only N` runs the first N of them: a simulator takes seconds for each image. With `--work DIR`
what breaks off goes on where it was: the answers of the NPU are kept there, by the hash of file and image.
`--more N` runs no more than N images of each file; the figures are those of the images that are done.
The answers are compared with those of onnxruntime's CPU kernels for the same file and with the float
model. The file of the target is also run from its compiled form in the cache. It is the maker's simulator:
nothing is said of speed. The plugin is the extra `qnn`.

Exit status: 0 the target's file runs wholly on the NPU, also from the cache, 1 it does not, 2 bad input.
"""

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.kept_answers import Answers, Kept, kept_answers
from vit_edge.cli.console import check_json, write_json
from vit_edge.errors import ProviderError, VitEdgeError
from vit_edge.host.convert.export import export
from vit_edge.host.convert.for_target import settings_for, widths
from vit_edge.host.convert.int8 import metadata_of, quantized
from vit_edge.host.convert.onnx_io import finish, save_onnx
from vit_edge.host.quantize.search import search_of
from vit_edge.host.quantize.types import Preset, QuantizeSettings
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.host.sources import Source, SourceOptions, resolve
from vit_edge.runtime.device.machine import describe_machine, version_of
from vit_edge.runtime.evaluate.dataset import evenly, list_images
from vit_edge.runtime.image.preprocess import load_pixels
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.session.providers import find_provider
from vit_edge.runtime.session.session import Session, SessionSettings
from vit_edge.spec import ActivationType, TargetSpec
from vit_edge.targets import load_target
from vit_edge.verify.metrics import agreement, logit_sqnr_db

TARGET = "qnn-htp"
ACTIVATIONS = (ActivationType.UINT16, ActivationType.UINT8, ActivationType.INT8)
ALONE = (("session.disable_cpu_ep_fallback", "1"),)
TOOLS = ("vit-edge", "onnxruntime", "onnxruntime-qnn", "torch", "numpy")

Logits = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Asked:
    """A file to run on the NPU."""

    name: str
    target: TargetSpec


def asked_for(target: TargetSpec) -> list[Asked]:
    """The target's own file first."""
    wide = target.form.activations
    asked = [Asked(f"{target.name}: {wide.value}, reads uint8 but for {target.wide_macs:.0%}", target)]
    for kind in sorted(ACTIVATIONS, key=lambda kind: kind is not wide):
        form = dataclasses.replace(target.form, activations=kind)
        asked.append(
            Asked(
                f"every operator integer, {kind.value} alone",
                dataclasses.replace(target, form=form, wide_macs=1.0),
            )
        )
    portable = load_target("cpu")
    single = dataclasses.replace(portable.form, batch=target.form.batch)
    return [*asked, Asked("portable form, batch 1", dataclasses.replace(portable, form=single))]


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        check_json(given.output)
        target = load_target(TARGET)
        find_provider(target.provider.name, target.provider)
        result = check(given, target)
        write_json(given.output, result)
    except VitEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(_table(result["files"]))
    chosen = result["files"][0]
    print(f"products that read 16 bits: {100 * result['macs_reading_16_bits']:.1f} %")
    print(f"from the compiled form: {'the same logits' if result['same_from_cache'] else 'other logits'}")
    return 0 if chosen["alone"] and result["same_from_cache"] else 1


def check(given: argparse.Namespace, target: TargetSpec) -> dict[str, Any]:
    """Make every file, run it, and compare; the target's own file comes first."""
    source = resolve(str(given.source), SourceOptions(crop_pct=given.crop_pct))
    asked = asked_for(target)[: given.only]
    paths = list_images(given.data).paths
    paths = evenly(paths, given.count)
    pixels = np.stack([load_pixels(path, source.preprocess) for path in paths])
    with tempfile.TemporaryDirectory(prefix="vit-edge-") as folder:
        files, reference, wide_share = _made(source, given, asked, Path(folder))
        exact = Session(read_model(reference), SessionSettings("cpu")).run(pixels)
        found = []
        for each, path in zip(asked, files, strict=True):
            print(f"running {each.name}", file=sys.stderr, flush=True)
            found.append(_row(each.name, path, pixels, exact, target, Kept(given.work, given.more)))
        same = _same_again(files[0], pixels, found[0][1], target)
    return {
        "model": source.name,
        "files": [row for row, _ in found],
        "macs_reading_16_bits": round(wide_share, 4),
        "same_from_cache": same,
        "machine": describe_machine().to_json(),
        "versions": {tool: version_of(tool) or "not installed as a package" for tool in TOOLS},
    }


def _made(
    source: Source, given: argparse.Namespace, asked: Sequence[Asked], folder: Path
) -> tuple[list[Path], Path, float]:
    """The INT8 files, the float model, and the share of the first file's products that read 16 bits."""
    exported, _ = export(source)
    reference = folder / "float.onnx"
    canonical = canonicalise(exported, source.name)
    save_onnx(finish(exported, metadata_of(source)), reference)
    settings = settings_for(
        QuantizeSettings(Preset.STATIC, cache=given.cache), [each.target for each in asked]
    )
    search = search_of(canonical, list_images(given.calib).paths, source.preprocess, settings)
    quantization = search.first()
    paths = [folder / f"{index}.onnx" for index in range(len(asked))]
    for each, path in zip(asked, paths, strict=True):
        save_onnx(quantized(search.canonical, quantization, each.target, source), path)
    plan = quantization.full_integer
    chosen = None if plan is None else widths(plan, asked[0].target)
    narrow = [] if chosen is None else [need.macs for need in chosen.needs if need.layer in chosen.narrow]
    return paths, reference, 1.0 - sum(narrow)


def _row(
    name: str,
    path: Path,
    pixels: npt.NDArray[np.uint8],
    exact: Logits,
    target: TargetSpec,
    kept: Kept,
) -> tuple[dict[str, Any], Answers | None]:
    """What one file does on the NPU, and its answers where it runs."""
    model = read_model(path)
    alone, npu = True, None
    try:
        npu = Session(model, _settings(target, ALONE))
    except ProviderError as error:
        alone, why = False, str(error)
        try:
            npu = Session(model, _settings(target, ()))
        except ProviderError as refusal:
            why = str(refusal).replace(str(path), path.name)
    row: dict[str, Any] = {"file": name, "alone": alone}
    if npu is None:
        return row | {"refused": why}, None
    provider = target.provider
    ran = provider.package, version_of(provider.package), provider.options, npu.settings.options
    answers = kept_answers(npu, pixels, path.read_bytes(), repr(ran), kept)
    made, exact = answers.logits, exact[answers.places]
    on_cpu = Session(model, SessionSettings("cpu")).run(pixels[answers.places])
    row |= {
        "images": len(made),
        "on_npu": round(100 * dict(npu.placement.shares).get(npu.placement.provider, 0.0), 2),
        "agreement_with_cpu": round(agreement(on_cpu, made), 2),
        "sqnr_to_cpu_db": round(logit_sqnr_db(on_cpu, made), 1),
        "agreement_with_float": round(agreement(exact, made), 2),
        "sqnr_to_float_db": round(logit_sqnr_db(exact, made), 1),
        "cpu_agreement_with_float": round(agreement(exact, on_cpu), 2),
        "cpu_sqnr_to_float_db": round(logit_sqnr_db(exact, on_cpu), 1),
    }
    return row, answers


def _same_again(
    path: Path, pixels: npt.NDArray[np.uint8], answers: Answers | None, target: TargetSpec
) -> bool:
    """Whether a session of its own, from the compiled form in the cache, gives an image the same logits."""
    if answers is None:
        return False
    again = Session(read_model(path), _settings(target, ALONE)).run(pixels[answers.places[:1]])
    return bool(np.array_equal(again, answers.logits[:1]))


def _settings(target: TargetSpec, options: tuple[tuple[str, str], ...]) -> SessionSettings:
    return SessionSettings(target.provider.name, options=options)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| file | without the CPU | nodes on the NPU | images | agreement with CPU | with float | SQNR |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "refused" in row:
            lines.append(f"| {row['file']} | no | refused: {row['refused']} | | | | |")
            continue
        lines.append(
            f"| {row['file']} | {'yes' if row['alone'] else 'no'} | {row['on_npu']:.1f} % "
            f"| {row['images']} "
            f"| {row['agreement_with_cpu']:.1f} % | {row['agreement_with_float']:.1f} % "
            f"| {row['sqnr_to_float_db']:.1f} dB |"
        )
    return "\n".join(lines)


def _more(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a number of images, 0 or more, got {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run INT8 files wholly on the simulated NPU.")
    parser.add_argument("--source", required=True, help="as for vit-edge build")
    parser.add_argument("--crop-pct", type=float, help="where the source does not say so")
    parser.add_argument("--calib", type=Path, required=True, metavar="DIR", help="calibration images")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="images to run")
    parser.add_argument("--count", type=int, default=20, metavar="N", help="images to run (default: 20)")
    parser.add_argument(
        "--only", type=int, metavar="N", help="of the files, the target's own being the first"
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keeps the calibration")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keeps the answers of images that are done")
    parser.add_argument("--more", type=_more, metavar="N", help="images to run in this go (default: all)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the figures as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
