"""Accuracy against latency where tokens merge: one model, float and INT8, several numbers per block.

Usage: python -m tools.merge_tokens --source FOLDER --calib DIR --data DIR [--counts 0 2 4 8 12 16]
           [--class-ids FILE] [--calib-cache DIR] [--seconds S] -o FILE.json

One quantization serves all INT8 files, as it does in `build --merge-tokens`. Every file is judged against the
float model that keeps all of its tokens, on the same images, by the gate that builds use, and all are timed
in turn, on one thread. The table of docs/token-merging.md is printed.
"""

import argparse
import dataclasses
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tools.peers.ours import tell
from vit_edge import plain
from vit_edge.cli.console import check_json, write_json
from vit_edge.errors import VitEdgeError
from vit_edge.gate_report import GateReport
from vit_edge.host.bundling.proof import Gate
from vit_edge.host.bundling.trial import on_disk
from vit_edge.host.convert.apart import canonical_of
from vit_edge.host.convert.export import export
from vit_edge.host.convert.for_target import PORTABLE_TARGET, settings_for
from vit_edge.host.convert.int8 import metadata_of, quantized
from vit_edge.host.convert.onnx_io import finish, to_bytes
from vit_edge.host.convert.optimize import normalisation_of
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.quantize.search import Search, search_of
from vit_edge.host.quantize.types import Preset, Quantization, QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.merging import merged
from vit_edge.host.sources import Source, SourceOptions, resolve
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.evaluate.dataset import list_images, read_images
from vit_edge.runtime.evaluate.labels import read_class_ids
from vit_edge.runtime.image.preprocess import random_pixels
from vit_edge.runtime.measure.timing import Ratio, Rounds, latency, ratios_to_first, time_interleaved
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.session import Session, SessionSettings, feed_of
from vit_edge.spec import TargetSpec, Tolerance
from vit_edge.targets import load_target

COUNTS = (0, 2, 4, 8, 12, 16)
FLOAT, INT8 = "float32", "INT8"
TITLES = (
    "per block",
    "left",
    "form",
    "verdict",
    "top-1",
    "agreement",
    "drop",
    "SQNR",
    "of float",
    "of own form",
)


@dataclasses.dataclass(frozen=True)
class Place:
    """One file of the curve."""

    form: str
    count: int
    """Tokens that merge in each block."""
    tokens: int
    """That are left behind the last block that merges."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="merge_tokens", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--source", required=True)
    parser.add_argument("--calib", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--class-ids", type=Path)
    parser.add_argument("--calib-cache", type=Path)
    parser.add_argument("--crop-pct", type=float)
    parser.add_argument("--target", default=PORTABLE_TARGET)
    parser.add_argument("--preset", choices=[each.value for each in Preset], default=Preset.BALANCED.value)
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS))
    parser.add_argument("--seconds", type=float, default=30.0, help="of timing, at least")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    check_json(given.output)
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = curve(given, Path(folder))
    except VitEdgeError as error:
        print(f"merge_tokens: error: {error}", file=sys.stderr)
        return 2
    write_json(given.output, found)
    print(table(found))
    return 0


def curve(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything that the file of results holds."""
    source = resolve(given.source, SourceOptions(crop_pct=given.crop_pct))
    target = load_target(given.target)
    exported, _ = export(source)
    plain_model = canonical_of(source, exported, key_bias=True)
    counts = sorted({0, *given.counts})
    for count in counts:
        merged(plain_model, count)  # refused before minutes of work
    settings = settings_for(QuantizeSettings(Preset(given.preset), cache=given.calib_cache), [target])
    paths = list_images(given.calib).paths
    search = search_of(plain_model, paths, source.preprocess, settings, tell)
    quantization = search.first()
    places, files = [], []
    for count in counts:
        for form in (FLOAT, INT8):
            model, left = written(source, form, count, plain_model, search, quantization, target)
            files.append(on_disk(folder / f"{form}_{count}.onnx", to_bytes(model, form)))
            places.append(Place(form, count, left))
    reports = judged(given, source, files)
    before = os.getloadavg()
    times = timed(files, Rounds(60, given.seconds))
    after = os.getloadavg()
    ratios = ratios_to_first(times)
    return {
        "source": source.name,
        "sha256": source.sha256,
        "machine": plain.of(describe_machine()),
        "data": {"name": given.data.name, "images": reports[0].n},
        "quantization": {
            "target": target.name,
            "preset": given.preset,
            "probe_db": quantization.recipe.probe_db,
        },
        "timing": {"threads": 1, "batch": 1, "rounds": len(times), "load_average": [*before, *after]},
        "files": [
            row(place, report, times[:, index], ratios[index], own_ratio(times, places, index))
            for index, (place, report) in enumerate(zip(places, reports, strict=True))
        ],
    }


def written(
    source: Source,
    form: str,
    count: int,
    canonical: Canonical,
    search: Search,
    quantization: Quantization,
    target: TargetSpec,
) -> tuple[onnx.ModelProto, int]:
    """One file, and how many tokens it has at its end."""
    folded = search.folded
    if form == INT8:
        model = merged(folded.canonical, count, folded.frames)
        made = quantized(model, quantization, target, source)
    else:
        model = merged(canonical, count)
        lowered = lower(model, LowerSettings(target.form, normalisation_of(source.preprocess)))
        made = finish(lowered, metadata_of(source, merging=model.merging))
    whole = 0 if canonical.description is None else canonical.description.tokens
    return made, whole if model.merging is None else model.merging.tokens[-1]


def judged(given: argparse.Namespace, source: Source, files: Sequence[ModelFile]) -> list[GateReport]:
    """Each file against the first, which is the float model with every token."""
    ids = None if given.class_ids is None else read_class_ids(given.class_ids)
    images = read_images(given.data, source.labels, ids)
    gate = Gate(files[0], images, 1, tell)
    return [comparison.report for comparison in gate.judge(files, Tolerance())]


def timed(files: Sequence[ModelFile], rounds: Rounds) -> Any:
    """(rounds, files) float64, ms."""
    sessions = [Session(file, SessionSettings("cpu", threads=1)) for file in files]
    size = files[0].input_size or (0, 0)
    pixels = random_pixels(1, size)
    feeds = [feed_of(file, pixels, file.preprocess) for file in files]
    runs = [
        (lambda session=session, feed=feed: session.run_feed(feed))
        for session, feed in zip(sessions, feeds, strict=True)
    ]
    return time_interleaved(runs, rounds)


def own_ratio(times: Any, places: Sequence[Place], index: int) -> Ratio:
    """Of a file's latency to that of its own form with every token."""
    first = next(i for i, place in enumerate(places) if place.form == places[index].form and not place.count)
    return ratios_to_first(times[:, [first, index]])[1]


def row(place: Place, report: GateReport, times: Any, ratio: Ratio, own: Ratio) -> dict[str, Any]:
    """One file in the results."""
    return {
        **dataclasses.asdict(place),
        "verdict": report.verdict.value,
        "top1": report.top1_quant,
        "agreement": report.agreement,
        "drop": report.drop,
        "drop_ci95": report.drop_ci95,
        "sqnr_db": report.logit_sqnr_db if np.isfinite(report.logit_sqnr_db) else None,
        "latency": dataclasses.asdict(latency(times)),
        "against_float": dataclasses.asdict(ratio),
        "against_own": dataclasses.asdict(own),
    }


def table(found: dict[str, Any]) -> str:
    """As the page shows it."""
    head = [f"| {' | '.join(TITLES)} |", "|" + "---|" * len(TITLES)]
    return "\n".join([*head, *(_line(each) for each in found["files"])])


def _line(each: dict[str, Any]) -> str:
    low, high = each["drop_ci95"] or (float("nan"), float("nan"))
    sqnr = "" if each["sqnr_db"] is None else f"{each['sqnr_db']:.1f} dB"
    first = each["form"] == FLOAT and not each["count"]
    cells = [
        str(each["count"]),
        str(each["tokens"]),
        each["form"],
        "reference" if first else each["verdict"],
        f"{each['top1']:.1f} %",
        "" if first else f"{each['agreement']:.1f} %",
        "" if first else f"{each['drop']:.1f} ({low:.1f} to {high:.1f})",
        sqnr,
        f"{each['against_float']['median']:.2f}",
        f"{each['against_own']['median']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
