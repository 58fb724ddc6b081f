"""Predicts INT8 against float latency on Arm cores from the instructions that an emulator counts.

Usage: python -m tools.arm_prediction [--model NAME FLOAT.onnx INT8.onnx] [--llvm DIR] -o FILE.json

One inference of each file runs on emulated Cortex-A72 and A76, one thread; a plugin counts how often each
block of instructions ran, and llvm-mca says how many cycles a block takes on the core. Without --model, the
networks of published measurements are counted and compared with these, which gives the error band; a
prediction needs that first. Needs Debian's qemu-user, gcc, llvm-19 and what tools.arm64_parity needs, as
root.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.arm64_parity.__main__ import merge
from tools.arm64_parity.emulator import version_of as emulator_version
from tools.arm64_parity.root import default_cache
from tools.arm_prediction import ultraface
from tools.arm_prediction.a64 import by_class
from tools.arm_prediction.cores import BOARDS, CORTEX_A76, Board, Pipeline
from tools.arm_prediction.counting import (
    EMULATOR,
    NCNN,
    Inference,
    Runs,
    count_ncnn,
    count_onnx,
    count_plain,
    ensure_counter,
)
from tools.arm_prediction.model import FITTED, Band, Compared, Cycles, band, compare, efficiency
from tools.arm_prediction.networks import NETWORKS
from tools.arm_prediction.public import MEASURED, ULTRAFACE
from tools.arm_prediction.weighing import Cost, block_cycles, cost, hottest, shared_out, version_of
from vit_edge.errors import UsageError, VitEdgeError
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.device.machine import version_of as package_version

VALIDATION = "validation"
_LEAST_SHARE = 0.001  # of a model's cycles, for an operator to be listed


def main(words: list[str] | None = None) -> int:
    given = _parser().parse_args(words)
    try:
        llvm = version_of(given.llvm)
        known = _known(given.output)
        if given.model and VALIDATION not in known:
            raise UsageError(f"{given.output} holds no validation yet; run the command without --model first")
        root = ensure_counter(given.cache)
        if given.model:
            name, *files = given.model
            record = predicted(root, given.llvm, (Path(files[0]), Path(files[1])), known[VALIDATION])
        else:
            name, record = VALIDATION, validated(root, given.llvm)
        merge(given.output, name, record | _made_with(llvm))
    except VitEdgeError as error:
        print(f"arm_prediction: {error}", file=sys.stderr)
        return 2
    print(json.dumps(record.get("boards", record.get("band")), indent=1))
    return 0


def validated(root: Path, llvm: Path) -> dict[str, Any]:
    """The published measurements beside their predictions."""
    counts: dict[str, Any] = {}
    for pipeline in (board.pipeline for board in BOARDS):
        core = pipeline.core
        for name, network in NETWORKS.items():
            for int8 in (False, True):
                print(f"{core.name}: {name}, {_precision(int8)}", file=sys.stderr, flush=True)
                spent = weigh(count_ncnn(root, core, network(int8)), pipeline, llvm)
                counts.setdefault(core.name, {}).setdefault(name, {})[_precision(int8)] = costs(spent)
    with tempfile.TemporaryDirectory() as folder:
        for int8, file in zip((False, True), ultraface.write(Path(folder)), strict=True):
            spent = weigh(count_plain(root, CORTEX_A76.core, file), CORTEX_A76, llvm)
            counts[CORTEX_A76.core.name].setdefault(ULTRAFACE, {})[_precision(int8)] = costs(spent)
    return {"engine": f"ncnn {NCNN}; onnxruntime for {ULTRAFACE}", "counts": counts, **judged(counts)}


def judged(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Rows, error band and the factor of each core.

    Args:
        counts: core -> network -> "float" and "int8", see `costs`.
    """
    cycles: Cycles = {
        (core, network, int8): kinds[_precision(int8)]["million_cycles"] * 1e6
        for core, networks in counts.items()
        for network, kinds in networks.items()
        for int8 in (False, True)
    }
    compared = compare(MEASURED, cycles)
    names = dict.fromkeys(each.measured.pipeline.core.name for each in compared)
    threads = sorted({each.measured.threads for each in compared if each.measured.threads})
    bands = {f"threads {number}": vars(band(compared, number)) for number in threads}
    return {
        "measurements": [_row(each) for each in compared],
        "fitted": f"{FITTED} in float, one thread",
        "efficiency": {core: round(efficiency(compared, core), 3) for core in names},
        "band": {name: {key: round(value, 3) for key, value in each.items()} for name, each in bands.items()},
    }


def _row(compared: Compared) -> dict[str, Any]:
    row = compared.measured
    return {
        "board": row.board,
        "core": row.pipeline.core.name,
        "gigahertz": row.gigahertz,
        "threads": row.threads,
        "network": row.network,
        "measured_ms": {"float": row.float_ms, "int8": row.int8_ms},
        "modelled_ms": {"float": round(compared.float_ms, 2), "int8": round(compared.int8_ms, 2)},
        "measured_ratio": round(compared.measured_ratio, 3),
        "predicted_ratio": round(compared.ratio, 3),
        "deviation": round(compared.deviation, 3),
        "source": row.source,
    }


def predicted(root: Path, llvm: Path, files: tuple[Path, Path], known: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of one model, of its float and its INT8 file, on every board."""
    spread = Band(**known["band"]["threads 1"])
    boards = {}
    for board in BOARDS:
        found = {}
        for kind, file in zip(("float", "int8"), files, strict=True):
            print(f"{board.pipeline.core.name}: {file}", file=sys.stderr, flush=True)
            found[kind] = counted(count_onnx(root, board.pipeline.core, file), board.pipeline, llvm)
        boards[board.name] = summed_up(board, found, known["efficiency"][board.pipeline.core.name], spread)
    return {"files": [file.name for file in files], "threads": 1, "boards": boards}


def counted(inference: Inference, pipeline: Pipeline, llvm: Path) -> dict[str, Any]:
    """Instructions by class, and cycles in all and by operator."""
    cycles = block_cycles(hottest(inference.runs), pipeline, llvm)
    spent = cost(inference.runs, cycles)
    mean = spent.cycles / spent.instructions
    operators = {}
    for kind, runs in shared_out(inference.runs, inference.operators).items():
        each = sum(
            (cycles[block] if block in cycles else mean * len(block) / 8) * n for block, n in runs.items()
        )
        if each >= _LEAST_SHARE * spent.cycles:
            operators[kind or "between operators"] = round(each / 1e6, 3)
    classes = {kind.value: round(count / 1e6, 3) for kind, count in by_class(inference.runs).items()}
    return {
        **costs(spent),
        "million_instructions_by_class": classes,
        "million_cycles_by_operator": dict(sorted(operators.items(), key=lambda item: -item[1])),
    }


def summed_up(board: Board, found: Mapping[str, Any], reached: float, spread: Band) -> dict[str, Any]:
    """The prediction for a board, and what it rests on.

    Args:
        board: whose clock counts.
        found: "float" and "int8", see `counted`.
        reached: share of the modelled speed.
        spread: factors of the error band.
    """
    cycles = {kind: each["million_cycles"] for kind, each in found.items()}
    ratio = cycles["int8"] / cycles["float"]
    ms = {kind: each / board.gigahertz / reached for kind, each in cycles.items()}
    return {
        "core": board.pipeline.core.name,
        "gigahertz": board.gigahertz,
        "sources": list(board.pipeline.sources),
        "predicted_ratio": {
            "ratio": round(ratio, 2),
            "least": round(ratio / spread.ratio, 2),
            "most": round(ratio * spread.ratio, 2),
        },
        "predicted_ms": {
            kind: {
                "latency": round(value, 1),
                "least": round(value / spread.latency, 1),
                "most": round(value * spread.latency, 1),
            }
            for kind, value in ms.items()
        },
        **found,
    }


def weigh(runs: Runs, pipeline: Pipeline, llvm: Path) -> Cost:
    """Instructions and cycles of one inference."""
    return cost(runs, block_cycles(hottest(runs), pipeline, llvm))


def costs(spent: Cost) -> dict[str, float]:
    """As the results file has them."""
    return {
        "million_instructions": round(spent.instructions / 1e6, 3),
        "million_cycles": round(spent.cycles / 1e6, 3),
    }


def _precision(int8: bool) -> str:
    return "int8" if int8 else "float"


def _made_with(llvm: str) -> dict[str, Any]:
    return {
        "machine": describe_machine().to_json(),
        "emulator": emulator_version(EMULATOR),
        "model_of_pipelines": llvm,
        "onnxruntime": package_version("onnxruntime"),
    }


def _known(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}): name a JSON file of this tool") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path} holds no JSON object: name a JSON file of this tool")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="arm_prediction", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", nargs=3, metavar=("NAME", "FLOAT", "INT8"), help="the entry's name, and two files"
    )
    parser.add_argument(
        "--llvm", type=Path, default=Path("/usr/lib/llvm-19/bin"), metavar="DIR", help="LLVM's tools"
    )
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where the arm64 root is kept")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file, updated")
    return parser


if __name__ == "__main__":
    sys.exit(main())
