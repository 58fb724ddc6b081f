"""How fast vit-edge-kernels runs an INT8 file beside onnxruntime's operators, and whether it answers alike.

Usage: python -m tools.bench_kernels PORTABLE.onnx --float FLOAT.onnx --data DIR [--count N] -o results.json

PORTABLE.onnx is an INT8 file of the target `cpu` (`vit-edge quantize`), FLOAT.onnx the same model from
`vit-edge export`. The portable file is rewritten for the kernels as `build --target cpu-native` does it, with
the input it has. The two are timed in turn on one thread, with each instruction set of the kernels that this
CPU has, and both are compared with the float model. `--fixed` times alone, where no image means anything.

Exit status: 0 the fastest kernels take at most 0.8 of the portable file's time, which makes them 1.25 times
as fast, 1 they do not, 2 bad input.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vit_edge.cli.console import check_json, write_json
from vit_edge.errors import VitEdgeError
from vit_edge.host.convert.onnx_io import read_onnx, save_onnx
from vit_edge.host.kernels.convert import to_kernels
from vit_edge.runtime.device.machine import describe_machine, version_of
from vit_edge.runtime.evaluate.dataset import evenly, list_images
from vit_edge.runtime.image.preprocess import load_pixels, random_pixels
from vit_edge.runtime.measure.memory import MemoryRequest, peak_rss_mb
from vit_edge.runtime.measure.timing import Rounds, latency, ratios_to_first, time_interleaved
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.runtime.model.metadata import ModelMetadata
from vit_edge.runtime.model.own_kernels import kernel_instructions
from vit_edge.runtime.session.session import Session, SessionSettings
from vit_edge.verify.metrics import agreement, logit_sqnr_db

CHOICE = "VIT_EDGE_KERNELS"
SETS = ("avx512-vnni", "avx-vnni", "avx2")
ONE = SessionSettings("cpu", threads=1)
ENOUGH = 0.8  # of the portable file's time, so that the kernels are 1.25 times as fast
TOOLS = ("vit-edge", "vit-edge-kernels", "onnxruntime", "numpy")

Logits = npt.NDArray[np.float32]


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        check_json(given.output)
        result = measured(given)
        write_json(given.output, result)
    except VitEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(_table(result))
    return 0 if min(row["ratio"] for row in result["kernels"]) <= ENOUGH else 1


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """All figures of one model."""
    portable = read_model(given.portable)
    pixels = _pixels(given, portable)
    exact = Session(read_model(given.float), ONE).run(pixels) if given.float else None
    with tempfile.TemporaryDirectory(prefix="vit-edge-") as folder:
        path = Path(folder) / "native.onnx"
        save_onnx(to_kernels(read_onnx(given.portable))[0], path)
        native = read_model(path)
        answers = Session(portable, ONE).run(pixels)
        alone = _fidelity(answers, exact)
        made = [_row(name, _Pair(portable, native), pixels, answers, given.rounds) for name in _sets()]
        rows = [row | _fidelity(answered, exact) for row, answered in made]
        memory = {"portable": _memory(given.portable, portable), "kernels": _memory(path, native)}
    return {
        "model": given.name or (ModelMetadata.of(portable.metadata).source or (given.portable.stem,))[0],
        "images": 0 if given.fixed else len(pixels),
        "portable": alone,
        "kernels": rows,
        "peak_rss_mb": memory,
        "machine": describe_machine().to_json(),
        "versions": {tool: version_of(tool) or "not installed as a package" for tool in TOOLS},
    }


def _pixels(given: argparse.Namespace, model: ModelFile) -> npt.NDArray[np.uint8]:
    if given.fixed:
        size = model.input_size
        return random_pixels(1, (224, 224) if size is None else size)
    if given.data is None or model.preprocess is None:
        raise VitEdgeError("give --data DIR and a file that states its preprocessing, or --fixed")
    paths = evenly(list_images(given.data).paths, given.count)
    return np.stack([load_pixels(path, model.preprocess) for path in paths])


def _sets() -> list[str]:
    """The instruction sets of this CPU, the fastest first."""
    found = []
    for name in SETS:
        os.environ[CHOICE] = name
        if kernel_instructions() is not None:
            found.append(name)
    os.environ.pop(CHOICE, None)
    if not found:
        raise VitEdgeError("vit-edge-kernels is not installed, or this CPU runs none of it")
    return found


class _Pair(NamedTuple):
    """The two files."""

    portable: ModelFile
    native: ModelFile


def _row(
    name: str, pair: _Pair, pixels: npt.NDArray[np.uint8], expected: Logits, rounds: int
) -> tuple[dict[str, Any], Logits]:
    """One instruction set beside the portable file, and its answers."""
    os.environ[CHOICE] = name
    sessions = [Session(each, ONE) for each in pair]  # the set is chosen when a file is loaded
    os.environ.pop(CHOICE, None)
    one = pixels[:1]
    times = time_interleaved(
        [lambda s=s: s.run(one) for s in sessions],  # type: ignore[misc]
        Rounds(rounds, 0),
    )
    answers = sessions[1].run(pixels)
    ratio = ratios_to_first(times)[1]
    return {
        "instructions": name,
        "portable_ms": round(latency(times[:, 0]).min_ms, 3),
        "ms": round(latency(times[:, 1]).min_ms, 3),
        "ratio": round(ratio.median, 3),
        "interval": None if ratio.interval is None else [round(each, 3) for each in ratio.interval],
        "agreement_with_portable": round(agreement(expected, answers), 2),
        "sqnr_to_portable_db": round(logit_sqnr_db(expected, answers), 1),
    }, answers


def _fidelity(answers: Logits, exact: Logits | None) -> dict[str, float]:
    if exact is None:
        return {}
    return {
        "agreement_with_float": round(agreement(exact, answers), 2),
        "sqnr_to_float_db": round(logit_sqnr_db(exact, answers), 2),
    }


def _memory(path: Path, model: ModelFile) -> float | None:
    return (
        None if model.preprocess is None else peak_rss_mb(MemoryRequest(str(path), model.preprocess, ONE, 1))
    )


def _table(result: dict[str, Any]) -> str:
    lines = [
        "| kernels | ms | of the portable file | agreement with it | with float | float SQNR |",
        "|---|---|---|---|---|---|",
    ]
    rows = [
        {"instructions": "portable file", "ms": result["kernels"][0]["portable_ms"], **result["portable"]}
    ]
    for row in rows + result["kernels"]:
        cells = [row.get(key, "") for key in ("instructions", "ms", "ratio", "agreement_with_portable")]
        cells += [row.get(key, "") for key in ("agreement_with_float", "sqnr_to_float_db")]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Time vit-edge-kernels beside onnxruntime's own operators.")
    parser.add_argument("portable", type=Path, metavar="PORTABLE.onnx", help="an INT8 file of the target cpu")
    parser.add_argument("--float", type=Path, metavar="FLOAT.onnx", help="the float model")
    parser.add_argument("--data", type=Path, metavar="DIR", help="images to compare on")
    parser.add_argument("--count", type=int, default=500, metavar="N", help="images (default: 500)")
    parser.add_argument("--fixed", action="store_true", help="time one made-up image, compare nothing")
    parser.add_argument("--rounds", type=int, default=150, metavar="N", help="timed in turn (default: 150)")
    parser.add_argument("--name", help="of the model in the results (default: what the file says)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the figures as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
