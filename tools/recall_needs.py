"""How close to float's an embedder's vectors must be to find the same neighbours, and how close they are.

Usage: python -m tools.recall_needs --source FILE.onnx --calib DIR --data DIR -o FILE.json
           [--presets NAME ...] [--calib-images N]

FILE.onnx is a float model without a classifier, written by `vit-edge build` or `optimize`. Each preset is
quantized for exact arithmetic. Beside it stands what 8 bits of the weights alone do, all activations in
float: a bound for whatever is done about activations. Of each the signal to noise ratio of the vectors of the
images in DIR, and the share of the ten nearest neighbours that are float's, in a gallery as `compare` divides
them. The same of the first preset's error with its size scaled down says what a recall takes.
"""

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tools.peers.ours import tell
from tools.told import told
from vit_edge.arrays import Float32
from vit_edge.embedding_report import NEIGHBOURS
from vit_edge.host.convert.apart import canonical_of
from vit_edge.host.convert.export import export
from vit_edge.host.plan import FLOAT
from vit_edge.host.quantize.folds import set_inputs
from vit_edge.host.quantize.probe import Probe, decibels
from vit_edge.host.quantize.search import Search, search_of
from vit_edge.host.quantize.types import Form, Preset, QuantizeSettings
from vit_edge.host.rewrite.composites import LINEAR, composites
from vit_edge.host.rewrite.values import linear_parts
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.runtime.device.machine import describe_machine, version_of
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.image.preprocess import load_pixels
from vit_edge.spec import Arithmetic
from vit_edge.verify.embeddings import split
from vit_edge.verify.neighbours import nearest, overlap

SIZES = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.125)  # of the error
TOOLS = ("vit-edge", "onnxruntime", "torch", "numpy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    given = _parser().parse_args(arguments)
    return told(lambda: measured(given), given.out, table)


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    source = resolve(str(given.source), SourceOptions())
    original, _ = export(source)
    canonical, paths = canonical_of(source, original), list_images(given.calib).paths
    pixels = [load_pixels(path, source.preprocess) for path in list_images(given.data).paths]
    rows: list[dict[str, Any]] = []
    reference = error = np.empty(0, np.float32)
    for name in given.presets:
        settings = QuantizeSettings(Preset(name), given.calib_images, arithmetics=(Arithmetic.EXACT,))
        search = search_of(canonical, paths, source.preprocess, settings, tell)
        probe = Probe(search.canonical, search.lowering, pixels)
        (vectors,) = probe.outputs(search.first().plans[Arithmetic.EXACT])
        if not rows:
            (reference,) = probe.reference
            error = vectors - reference
            rows.append({"what": "weights alone", **closeness(reference, of_weights(search, probe))})
        rows.append({"what": name, **closeness(reference, vectors)})
    return {
        "source": source.name,
        "images": len(pixels),
        "gallery": split(len(pixels), None).gallery.size,
        "forms": rows,
        "scaled": list(scaled(reference, error)),
        "machine": describe_machine().to_json(),
        "versions": {tool: version_of(tool) for tool in TOOLS},
    }


def of_weights(search: Search, probe: Probe) -> Float32:
    """The vectors of the float model with every linear layer's weights as eight bits hold them."""
    model = search.canonical.model.clone()
    for node in list(composites(model.graph, LINEAR)):
        plan = search.plan_set.exact.linears[str(node.name)][Form.STATIC]
        _, _, bias = linear_parts(node)
        rounded = plan.weight * plan.weight_scale
        set_inputs(model.graph, node, [rounded, *([] if bias is None else [bias])])
    canonical = dataclasses.replace(search.canonical, model=model)
    (vectors,) = Probe(canonical, probe.settings, probe.images).outputs(FLOAT)
    return vectors


def scaled(reference: Float32, error: Float32) -> Iterator[dict[str, float]]:
    """What recall would be if the error were so many times its size."""
    for size in SIZES:
        yield {"size": size, **closeness(reference, reference + np.float32(size) * error)}


def closeness(reference: Float32, other: Float32) -> dict[str, float]:
    """Signal to noise ratio in dB, and percent of the nearest neighbours."""
    noise = float(np.square(other - reference, dtype=np.float64).sum())
    halves = split(len(reference), None)
    found = [
        nearest(each[halves.gallery], each[halves.queries], NEIGHBOURS)[0] for each in (reference, other)
    ]
    return {
        "sqnr_db": round(decibels(noise / float(np.square(reference, dtype=np.float64).sum())), 2),
        "recall_at_10": round(100 * float(overlap(*found).mean()), 2),
    }


def table(result: dict[str, Any]) -> str:
    """For the documentation."""
    rows = [(each["what"], each) for each in result["forms"]]
    rows += [(f"error times {each['size']}", each) for each in result["scaled"]]
    lines = ["| vectors | signal to noise | recall@10 |", "|---|---|---|"]
    return "\n".join(
        [*lines, *(f"| {what} | {row['sqnr_db']} dB | {row['recall_at_10']} % |" for what, row in rows)]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", required=True, type=Path, metavar="FILE.onnx")
    parser.add_argument("--calib", required=True, type=Path, metavar="DIR")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR")
    names = [each.value for each in Preset]
    parser.add_argument("--presets", nargs="+", choices=names, default=["balanced", "accurate"])
    parser.add_argument("--calib-images", type=int, default=64)
    parser.add_argument("-o", "--out", type=Path, metavar="FILE.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
