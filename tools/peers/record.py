"""The file of results: one section for each kind of CPU, side by side."""

import json
from pathlib import Path
from typing import Any

from vit_edge.errors import UsageError

_KINDS = (("VNNI", {"avx512_vnni", "avx_vnni"}), ("AVX2", {"avx2"}), ("Arm", {"asimd"}))
OTHER = "other"
SKIPPED = "left out of this run"  # the note of what was not asked for
APART = "timed_apart"  # how a row was timed that a later run added
_GIVEN = ("model", "calibration", "evaluation", "machine")


def kind_of(flags: list[str]) -> str:
    """The integer instructions that decide results and latency, of the flags of a machine."""
    return next((kind for kind, needed in _KINDS if needed & set(flags)), OTHER)


def read(path: Path) -> dict[str, Any]:
    """Kind of CPU -> results, in a file that the tool wrote.

    Raises:
        UsageError: it is none.
    """
    known = {kind for kind, _ in _KINDS} | {OTHER}
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for kind, result in found.items():
            if kind not in known:
                raise KeyError(kind)
            _ = result["rows"], result["machine"], result["environments"], result["model"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} holds no results of this tool ({error})") from None
    return found


def joined(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """The results of a file with those of this machine's kind replaced.

    Where the same images were given on the same machine before, what a run left out stays as it was; what it
    adds is then marked with how it was timed.

    Raises:
        UsageError: the file exists and holds other things, or another model's results.
    """
    before = before_it(path, result["model"]["sha256"])
    kind = kind_of(list(result["machine"]["flags"]))
    same = kind in before and all(before[kind][key] == result[key] for key in _GIVEN)
    return before | {kind: _added(before[kind], result) if same else result}


def _added(before: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    told = {row["name"] for row in result["rows"][1:] if row.get("note") != SKIPPED}  # behind the float model
    kept = [row for row in before["rows"] if row["name"] not in told]
    if not any("note" not in row for row in kept[1:]):
        return result
    new = [
        row if "note" in row else row | {APART: result["latency"]}
        for row in result["rows"]
        if row["name"] in told
    ]
    return before | {
        "environments": before["environments"] | result["environments"],
        "rows": [*kept, *new],
    }


def before_it(path: Path, model: str) -> dict[str, Any]:
    """What a file of results holds; nothing where there is none.

    Args:
        path: of the file.
        model: SHA-256 of the weights that its results are of.

    Raises:
        UsageError: the file exists and holds other things, or another model's results.
    """
    before = read(path) if path.exists() else {}
    for result in before.values():
        if result["model"]["sha256"] != model:
            raise UsageError(
                f"{path} holds results of another model ({result['model']['name']}): name another file"
            )
    return before
