"""The results of one kind of CPU as a markdown table."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

HEADING = (
    "",
    "quantizer",
    "runs in",
    "top-1",
    "drop, points (95 %)",
    "agreement with float",
    "logit SQNR",
    "latency against float",
    "file",
    "quantizing, CPU time",
    "peak memory",
    "lines",
)
SPACE = ("environment", "asked for", "size", "import, CPU time")


def markdown(result: Mapping[str, Any]) -> str:
    """Rows with figures, the closest to float first, then those that made nothing, with the reason."""
    lines = [_line(HEADING), _line(["---"] * len(HEADING))]
    lines += [_line([str(number or ""), *_cells(row)]) for number, row in enumerate(ordered(result["rows"]))]
    without = [row for row in result["rows"] if "note" in row]
    if without:
        lines += ["", _line(("quantizer", "no figures, because")), _line(["---"] * 2)]
        lines += [_line((row["name"], _reason(row))) for row in without]
    return "\n".join(lines)


def _reason(row: Mapping[str, Any]) -> str:
    """Its note, and how much its recipe took, where it was run."""
    seconds = row.get("made", {}).get("cpu_seconds")
    after = "" if seconds is None else f" (after {seconds:.0f} s of the processor)"
    return f"`{row['note'].replace('|', '/').replace('`', '')}`{after}"


def environments(installed: Mapping[str, Any]) -> str:
    """What was installed, and what it weighs, by name."""
    lines = [_line(SPACE), _line(["---"] * len(SPACE))]
    for name, found in installed.items():
        asked = ", ".join(f"`{package}`" for package in found["packages"])
        if found["reason"] is None:
            import_s = f"{found['import_cpu_s']:.1f} s"
            lines.append(_line((name, asked, f"{found['size_mb']:.0f} MB", import_s)))
        else:
            lines.append(_line((name, asked, f"not there: `{found['reason'].replace('|', '/')}`", "")))
    return "\n".join(lines)


def ordered(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those with figures: the float model, then by agreement with it, then by noise."""
    measured = [row for row in rows if "note" not in row]
    return measured[:1] + sorted(
        measured[1:], key=lambda row: (-row["agreement"], -decibels(row), row["name"])
    )


def decibels(row: Mapping[str, Any]) -> float:
    """Signal to noise ratio of its logits, infinite where none differs."""
    found = row["logit_sqnr_db"]
    return math.inf if found is None else float(found)


def engine_of(row: Mapping[str, Any]) -> str:
    """Its name, without version."""
    return str(row["made"]["engine"]).split(" ")[0]


def _cells(row: Mapping[str, Any]) -> list[str]:
    made = row["made"]
    reference = row["logit_sqnr_db"] is None and row["agreement"] == 100.0
    drop = ""
    if "drop" in row and not reference:
        low, high = row["drop_interval_95"]
        drop = f"{row['drop']:.1f} ({low:.1f} to {high:.1f})"
    return [
        row["name"],
        engine_of(row),
        f"{row['top1']:.1f} %" if "top1" in row else "",
        drop,
        "" if reference else f"{row['agreement']:.1f} %",
        "" if row["logit_sqnr_db"] is None else f"{row['logit_sqnr_db']:.1f} dB",
        f"{row['ratio_to_float']['median']:.2f}",
        f"{row['size_mb']:.1f} MB",
        f"{made['cpu_seconds']:.0f} s" if "cpu_seconds" in made else "",
        f"{made['peak_mb']:.0f} MB" if "peak_mb" in made else "",
        str(made.get("lines", "")),
    ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
