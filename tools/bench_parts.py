"""Where an INT8 file's time goes in onnxruntime, and what other forms of its parts would take.

Usage: python -m tools.bench_parts FILE.onnx [--tokens 197 --dim 192 --heads 3 --depth 12] -o results.json

The first table sums the file's operators by what they do, from onnxruntime's own profile, one image and one
thread. The second times forms of three parts of a block in turn, each alone with onnxruntime's standard
operators: the MLP up to the codes that its second product reads, queries, keys and values up to the codes
that attention reads, and the normalization. What a form would save is told as a share of the file's time if
every block took it. Forms of one part give the same, up to a step, but for GELU as x * sigmoid(1.702 x).
"""

import argparse
import collections
import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tools.parts import PARTS, Sizes
from vit_edge.cli.console import check_json, write_json
from vit_edge.errors import UsageError, VitEdgeError
from vit_edge.host.ort import cpu_session
from vit_edge.host.quantize.observe import SESSION_OPTIONS
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.image.preprocess import random_pixels
from vit_edge.runtime.measure.timing import Rounds, time_interleaved
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.runtime.session.session import Session, SessionSettings

SKIPPED = 3  # runs at the start of a profile
KINDS = {
    "integer products": "QGemm MatMulIntegerToFloat QLinearMatMul QLinearConv MatMulInteger",
    "float products": "MatMul Gemm FusedMatMul Conv FusedConv",
    "quantizers": "QuantizeLinear DequantizeLinear DynamicQuantizeLinear",
    "GELU": "Gelu FastGelu BiasGelu QuickGelu",
    "softmax, and largest of rows": "Softmax ReduceMax Sub Exp ReduceSum Div",
    "normalizations": "LayerNormalization SimplifiedLayerNormalization SkipLayerNormalization",
    "moves": "Transpose Split Reshape Concat Gather Pad Slice",
}
REST = "sums and scales"


@dataclasses.dataclass(frozen=True)
class Share:
    """What operators of one kind take of a file's time."""

    kind: str
    operators: int
    microseconds: float
    share: float


@dataclasses.dataclass(frozen=True)
class Timed:
    """One form of a part of a block."""

    part: str
    form: str
    min_microseconds: float
    median_microseconds: float
    saves: float
    """Of the file's time, if every block took it in place of the part's first form."""


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        check_json(given.output)
        sizes = Sizes(given.tokens, given.dim, given.heads)
        model = read_model(given.file)
        shares = shares_of(profile(model, given.runs))
        whole = sum(share.microseconds for share in shares)
        rounds = Rounds(given.rounds, given.seconds)
        forms = [each for part in PARTS for each in timed(part, sizes, rounds, given.depth / whole)]
        write_json(given.output, result(given, model, shares, forms))
    except VitEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join([*map(line_of_share, shares), *map(line_of_form, forms)]))
    return 0


def result(
    given: argparse.Namespace, model: ModelFile, shares: Sequence[Share], forms: Sequence[Timed]
) -> dict[str, Any]:
    """What is written, with the machine."""
    return {
        "machine": describe_machine().to_json(),
        "file": {"name": given.file.name, "sha256": model.sha256},
        "block": {"tokens": given.tokens, "dim": given.dim, "heads": given.heads, "depth": given.depth},
        "threads": 1,
        "batch": 1,
        "shares": [dataclasses.asdict(share) for share in shares],
        "forms": [dataclasses.asdict(form) for form in forms],
    }


def profile(model: ModelFile, runs: int) -> dict[tuple[str, str], float]:
    """(operator, node) -> median microseconds of one image on one thread.

    Raises:
        UsageError: a file that does not say the size of its images.
        ModelError: onnxruntime refuses the model, or fails.
    """
    if model.size is None:
        raise UsageError(f"{model.path} takes images of any size; give a file of one size")
    with tempfile.TemporaryDirectory() as folder:
        settings = SessionSettings("cpu", threads=1, trace=Path(folder) / "trace")
        session, pixels = Session(model, settings), random_pixels(1, model.size)
        for _ in range(runs + SKIPPED):
            session.outputs(pixels)
        events = json.loads(session.end_trace().read_text(encoding="utf-8"))
    return medians(events)


def medians(events: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], float]:
    """(operator, node) -> median microseconds, of the events of an onnxruntime profile."""
    took: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time"):
            took[event["args"]["op_name"], event["name"]].append(float(event["dur"]))
    return {node: float(np.median(times[SKIPPED:])) for node, times in took.items()}


def shares_of(nodes: Mapping[tuple[str, str], float]) -> list[Share]:
    """What each kind of operator takes, most first."""
    kinds = {operator: kind for kind, names in KINDS.items() for operator in names.split()}
    found: dict[str, list[float]] = collections.defaultdict(list)
    for (operator, _), took in nodes.items():
        found[kinds.get(operator, REST)].append(took)
    whole = sum(nodes.values())
    shares = [Share(kind, len(times), sum(times), sum(times) / whole) for kind, times in found.items()]
    return sorted(shares, key=lambda share: -share.microseconds)


def timed(part: str, sizes: Sizes, rounds: Rounds, blocks_of_whole: float) -> list[Timed]:
    """Forms of a part, in turn; the last is blocks for each microsecond of the file."""
    feed = {"x": PARTS[part].given(sizes)}
    runs = [_running(write(sizes), feed) for write in PARTS[part].forms.values()]
    took = time_interleaved(runs, rounds) * 1e3
    least, median = took.min(axis=0), np.median(took, axis=0)
    saves = (median[0] - median) * PARTS[part].count * blocks_of_whole
    figures = zip(PARTS[part].forms, least.tolist(), median.tolist(), saves.tolist(), strict=True)
    return [Timed(part, *each) for each in figures]


def _running(model: bytes, feed: dict[str, Any]) -> Callable[[], object]:
    session = cpu_session(model, SESSION_OPTIONS.items(), threads=1)
    return lambda: session.run(None, feed)


def line_of_share(share: Share) -> str:
    return f"{share.kind:28s} {share.operators:4d} {share.microseconds:8.0f} us {share.share:6.1%}"


def line_of_form(form: Timed) -> str:
    return f"{form.part}: {form.form:44s} {form.median_microseconds:8.1f} us, saves {form.saves:+.1%}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench_parts", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="INT8 model of `vit-edge quantize`")
    parser.add_argument("--tokens", type=int, default=197)
    parser.add_argument("--dim", type=int, default=192)
    parser.add_argument("--heads", type=int, default=3)
    parser.add_argument("--depth", type=int, default=12, help="blocks of the file")
    parser.add_argument("--runs", type=int, default=100, help="of the file, for the profile")
    parser.add_argument("--rounds", type=int, default=200, help="of the forms, at least so many")
    parser.add_argument("--seconds", type=float, default=3.0, help="and at least so long, for each part")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file to write")
    return parser


if __name__ == "__main__":
    sys.exit(main())
