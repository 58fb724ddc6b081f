"""Cycles of blocks of instructions, from a published model of a core's pipelines.

llvm-mca repeats a block as its own loop and says how long a round takes: what its instructions need of each
pipe, how they wait for each other, and what the reorder buffer holds. Caches and memory are not part of it.
"""

import dataclasses
import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.arm_prediction.a64 import words_of
from tools.arm_prediction.cores import Pipeline
from tools.arm_prediction.counting import Runs
from vit_edge.errors import UsageError

OLDEST_LLVM = 16  # the first with a model of Neoverse N1 of its own
COVERED = 0.995  # of executed instructions; the rest is taken to cost as much on average
_ROUNDS = 100
_FEATURES = "-mattr=+v8.2a,+dotprod,+fullfp16,+lse,+rcpc"
_TARGET = "-triple=aarch64"


@dataclasses.dataclass(frozen=True)
class Cost:
    """What executed blocks amount to."""

    instructions: int
    cycles: float


def version_of(llvm: Path) -> str:
    """The version of LLVM's tools in a folder.

    Raises:
        UsageError: they are absent, or older than the model of a core that is asked for.
    """
    said = _run(llvm, "llvm-mca", ["--version"], "")
    version = re.search(r"LLVM version (\d+)(\.\S+)?", said)
    if version is None or int(version[1]) < OLDEST_LLVM:
        raise UsageError(f"{llvm} has no LLVM {OLDEST_LLVM} or newer; name its folder bin with --llvm")
    return f"LLVM {version[1]}{version[2] or ''}"


def hottest(runs: Runs, share: float = COVERED) -> list[str]:
    """The fewest blocks that make up a share of the executed instructions."""
    size = {block: len(words_of(block)) * times for block, times in runs.items()}
    wanted, found = share * sum(size.values()), []
    for block in sorted(size, key=lambda block: (-size[block], block)):
        if wanted <= 0:
            break
        found.append(block)
        wanted -= size[block]
    return found


def block_cycles(blocks: Sequence[str], pipeline: Pipeline, llvm: Path) -> dict[str, float]:
    """Cycles of one run of each block, in a steady state.

    Raises:
        UsageError: LLVM's tools are absent or fail.
    """
    if not blocks:
        return {}
    lines = _disassembled(blocks, llvm)
    text, at = [], 0
    for number, block in enumerate(blocks):
        length = len(words_of(block))
        text += [f"# LLVM-MCA-BEGIN {number}", *lines[at : at + length], "# LLVM-MCA-END"]
        at += length
    options = [f"-m{_TARGET[1:]}", f"-mcpu={pipeline.scheduling}", _FEATURES, f"-iterations={_ROUNDS}"]
    options += ["-json", "-instruction-info=false", "-resource-pressure=false"]
    options += [
        "--skip-unsupported-instructions=any"
    ]  # reads of system registers, and what is older than the model
    regions = json.loads(_run(llvm, "llvm-mca", options, "\n".join(text) + "\n"))["CodeRegions"]
    return dict(zip(blocks, rounds(regions, blocks, pipeline.decoded), strict=True))


def rounds(regions: Sequence[Mapping[str, object]], blocks: Sequence[str], decoded: int) -> list[float]:
    """Cycles of a block from what llvm-mca says, but no fewer than its instructions take to be decoded.

    Raises:
        UsageError: llvm-mca left a block out.
    """
    found = []
    named = {region["Name"]: region["SummaryView"] for region in regions}
    for number, block in enumerate(blocks):
        view = named.get(str(number))
        if not isinstance(view, Mapping):
            raise UsageError(f"llvm-mca says nothing of block {number} of {len(blocks)}")
        found.append(max(view["TotalCycles"] / view["Iterations"], len(words_of(block)) / decoded))
    return found


def cost(runs: Runs, cycles: Mapping[str, float]) -> Cost:
    """Executed instructions and cycles; blocks of unknown cycles cost as much as the others on average.

    Raises:
        UsageError: no block that ran has known cycles.
    """
    instructions = {block: len(words_of(block)) * times for block, times in runs.items()}
    everything = sum(instructions.values())
    known = sum(count for block, count in instructions.items() if block in cycles)
    if not known:
        raise UsageError("none of the blocks that ran has known cycles")
    spent = sum(cycles[block] * times for block, times in runs.items() if block in cycles)
    return Cost(everything, spent * everything / known)


def shared_out(runs: Runs, operators: Mapping[str, Runs]) -> Mapping[str, Runs]:
    """The executed blocks dealt to operators, as a second, profiled run found them; the rest under "".

    What only the profile executed is in none of them, since the first run did not.
    """
    everywhere: dict[str, int] = {}
    for found in operators.values():
        for block, times in found.items():
            everywhere[block] = everywhere.get(block, 0) + times
    dealt: dict[str, dict[str, int]] = {kind: {} for kind in ("", *operators)}
    for block, times in runs.items():
        left = times
        for kind, found in operators.items():
            if block in found:
                share = min(left, round(times * found[block] / max(times, everywhere[block])))
                dealt[kind][block] = share
                left -= share
        if left:
            dealt[""][block] = left
    return dealt


def _disassembled(blocks: Sequence[str], llvm: Path) -> list[str]:
    words = [word for block in blocks for word in words_of(block)]
    text = "\n".join(" ".join(f"0x{byte:02x}" for byte in word.to_bytes(4, "little")) for word in words)
    said = _run(llvm, "llvm-mc", ["--disassemble", _TARGET, _FEATURES], text + "\n")
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.strip().startswith(".")]
    if len(lines) != len(words):
        raise UsageError(f"llvm-mc reads {len(lines)} of {len(words)} instructions")
    return lines


def _run(llvm: Path, tool: str, words: Sequence[str], given: str) -> str:
    try:
        done = subprocess.run(
            [str(llvm / tool), *words], input=given, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise UsageError(
            f"{llvm / tool} cannot be run ({error.strerror}); name LLVM's folder with --llvm"
        ) from None
    if done.returncode:
        said = (done.stderr.strip() or "nothing was said").splitlines()[0]
        raise UsageError(f"{llvm / tool} fails: {said}")
    return done.stdout
