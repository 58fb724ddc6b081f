"""How close an INT8 embedder comes to the float one, by what its forms are chosen for, and what that costs.

Usage: python -m tools.embedder_noise --source FOLDER --calib DIR --data DIR -o FILE.json
           [--target NAME] [--preset NAME] [--aims NAME ...] [--times SHARE ...] [--calib-images N]
           [--count N] [--rounds N] [--calib-cache DIR]

One calibration serves all: `logits` takes the forms that the classifier's own search takes, `cls`, `pooled`
and `patches` are searched for that output, `all` for each of them, as `vit-edge quantize --embedder` does it
with and without `--embedder-for`, within each of --times of what the forms of `logits` take. Of each, the
signal to noise ratio and the cosine of each output on COUNT images of --data, and its latency against that of
`logits`: measured interleaved on the whole files, and added up of layers that were timed alone by processor
time, which other work on the machine does not change. What is left of the noise is told by its loudest
layers, as each does it alone.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from tools.peers.ours import tell
from tools.told import told
from vit_edge.embedding_report import Fidelity
from vit_edge.host.convert.apart import canonical_of
from vit_edge.host.convert.export import export
from vit_edge.host.convert.for_target import settings_for
from vit_edge.host.convert.onnx_io import save_onnx
from vit_edge.host.convert.optimize import natural_pixels
from vit_edge.host.embedder.files import embedding_fidelity, float_embedder, written_embedder
from vit_edge.host.embedder.graph import feature_graph
from vit_edge.host.embedder.quantize import MOST_TIME, as_chosen, embedder_search, searched
from vit_edge.host.quantize.probe import decibels
from vit_edge.host.quantize.search import Search, search_of
from vit_edge.host.quantize.types import Form, Goal, LayerDecision, Preset, Quantization, QuantizeSettings
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.runtime.device.machine import describe_machine, version_of
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.image.limits import DEFAULT_LIMITS
from vit_edge.runtime.measure.benchmark import BenchSettings, bench
from vit_edge.runtime.measure.timing import Rounds
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.session.session import SessionSettings
from vit_edge.spec import CLS_EMBEDDING, PATCH_FEATURES, POOLED_EMBEDDING
from vit_edge.targets import load_target

AIMS: Mapping[str, tuple[str, ...]] = {
    "cls": (CLS_EMBEDDING,),
    "pooled": (POOLED_EMBEDDING,),
    "patches": (PATCH_FEATURES,),
    "all": (),
}
LOGITS = "logits"
TOOLS = ("vit-edge", "onnxruntime", "torch", "numpy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    given = _parser().parse_args(arguments)
    return told(lambda: measured(given), given.out, table)


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """Every aim's figures."""
    source = resolve(str(given.source), SourceOptions())
    original, _ = export(source)
    canonical = canonical_of(source, original)
    plain = float_embedder(original, canonical, source)
    target = load_target(given.target)
    asked = QuantizeSettings(Preset(given.preset), given.calib_images, given.calib_cache)
    settings = settings_for(asked, [target])
    search = search_of(
        canonical, list_images(given.calib, settings.limits).paths, source.preprocess, settings, tell
    )
    folded = feature_graph(search.canonical, plain.features.norm)
    pixels = natural_pixels(list_images(given.data).paths, source.preprocess, DEFAULT_LIMITS, given.count)
    searches = {
        aim: embedder_search(folded, search, target.arithmetic, source.preprocess, AIMS[aim])
        for aim in given.aims
    }
    chosen, first = search.first(), next(iter(searches.values()))
    made: dict[str, onnx.ModelProto] = {}
    rows: list[dict[str, Any]] = []
    wanted = [
        (LOGITS, first, 1.0),
        *((aim, own, most) for aim, own in searches.items() for most in given.times),
    ]
    for index, (aim, own, most) in enumerate(wanted):
        found = unsearched(own, chosen) if aim == LOGITS else searched(own, chosen, most)
        made[f"{index}"], _ = written_embedder(folded, found, source, target)
        close = embedding_fidelity(plain.model, made[f"{index}"], list(pixels))
        rows.append({"aim": aim, "time_allowed": most, **row_of(own, found, close)})
        print(rows[-1], file=sys.stderr, flush=True)
    for row, ratio in zip(rows, latencies(made, Rounds(given.rounds, 0.0)), strict=True):
        row["layers_ratio"] = round(row["layers_ms"] / rows[0]["layers_ms"], 3)
        row["latency_ratio"] = ratio
    return {
        "source": source.name,
        "target": target.name,
        "preset": given.preset,
        "images": len(pixels),
        "aims": rows,
        "machine": describe_machine().to_json(),
        "versions": {tool: version_of(tool) for tool in TOOLS},
    }


def unsearched(own: Search, chosen: Quantization) -> Quantization:
    """An embedder whose layers have the forms that they have in the classifier."""
    forms = as_chosen(own, chosen)
    decisions = [LayerDecision(name, form, None, "as in the classifier") for name, form in forms.items()]
    return own.finished(forms, decisions, chosen.goal)


def row_of(own: Search, found: Quantization, close: Mapping[str, Fidelity]) -> dict[str, Any]:
    """What is told of one embedder, without its latency."""
    return {
        "outputs": {
            name: {"sqnr_db": round(each.sqnr_db, 2), "cosine": round(each.cosine, 5)}
            for name, each in close.items()
        },
        "layers_ms": round(own.milliseconds(found), 3),
        "forms": {form.value: sum(layer.form is form for layer in found.layers) for form in Form},
        "left_db": left(own, found),
    }


def left(own: Search, found: Quantization, count: int = 12) -> dict[str, float]:
    """The loudest layers of a quantization and what each does alone, dB of what its search aims at."""
    taken = own.options(found, Goal(math.inf, float_layers=True))[1]
    loudest = sorted(taken, key=lambda name: -taken[name].noise)[:count]
    return {f"{name} {taken[name].form.value}": round(decibels(taken[name].noise), 1) for name in loudest}


def latencies(models: Mapping[str, onnx.ModelProto], rounds: Rounds) -> list[float]:
    """Of each the median ratio to the first, interleaved, one thread."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name, model in models.items():
            save_onnx(model, Path(folder, f"{name}.onnx"))
            files.append(read_model(Path(folder, f"{name}.onnx")))
        report = bench(files, BenchSettings(SessionSettings("cpu", threads=1), rounds=rounds))
    return [round(ratio.median, 3) for ratio in report.ratios]


def table(result: Mapping[str, Any]) -> str:
    """For the documentation."""
    names = list(result["aims"][0]["outputs"])
    lines = [
        f"| forms chosen for, time allowed | {' | '.join(names)} | layers' time | latency |",
        "|" + "---|" * (len(names) + 3),
    ]
    for row in result["aims"]:
        decibels = [f"{row['outputs'][name]['sqnr_db']:.1f} dB" for name in names]
        times = [f"{row[key]:.2f}" for key in ("layers_ratio", "latency_ratio")]
        lines.append(f"| {row['aim']}, {row['time_allowed']:g} | {' | '.join((*decibels, *times))} |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--source", required=True)
    parser.add_argument("--calib", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--target", default="cpu-x86-vnni")
    parser.add_argument("--preset", default="balanced", choices=[each.value for each in Preset])
    parser.add_argument("--aims", nargs="+", choices=AIMS, default=["cls", "patches", "all"])
    parser.add_argument("--times", nargs="+", type=float, default=[MOST_TIME], metavar="SHARE")
    parser.add_argument("--calib-images", type=int, default=128)
    parser.add_argument("--calib-cache", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=60)
    return parser


if __name__ == "__main__":
    sys.exit(main())
