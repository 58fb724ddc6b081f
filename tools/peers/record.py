"""The file of results: one section for each kind of CPU, side by side."""

import json
from pathlib import Path
from typing import Any

from vit_edge.errors import UsageError

_KINDS = (("VNNI", {"avx512_vnni", "avx_vnni"}), ("AVX2", {"avx2"}), ("Arm", {"asimd"}))
OTHER = "other"


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
            _ = result["rows"], result["machine"], result["environments"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} holds no results of this tool ({error})") from None
    return found


def joined(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """The results of a file with those of this machine's kind replaced.

    Raises:
        UsageError: the file exists and holds other things.
    """
    before = read(path) if path.exists() else {}
    return before | {kind_of(list(result["machine"]["flags"])): result}
