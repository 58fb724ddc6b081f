"""Figures of a comparison as plain JSON, and as a markdown table."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tools.peers.measure import Floats
from vit_edge.runtime.measure.timing import Milliseconds, latency, ratios_to_first
from vit_edge.spec import InputForm
from vit_edge.verify.metrics import agreement, logit_sqnr_db, top_k_correct
from vit_edge.verify.paired import paired_counts, score_interval

CONFIDENCE = 0.95
HEADING = (
    "model",
    "top-1 %",
    "drop, points (95 %)",
    "agreement %",
    "SQNR dB",
    "MB",
    "min ms",
    "median ms",
    "of float",
    "of NNCF",
    "min of float",
    "min of NNCF",
)


class Measurable(Protocol):
    """What a row is about."""

    @property
    def name(self) -> str:
        """Of the row."""
        ...

    @property
    def form(self) -> InputForm:
        """What the model takes."""
        ...

    @property
    def size(self) -> int:
        """Bytes of its files."""
        ...

    @property
    def info(self) -> dict[str, Any]:
        """Plain JSON: how it was made and is run."""
        ...


@dataclasses.dataclass(frozen=True)
class Measured:
    """Everything that was measured; the first contender is the float model."""

    contenders: Sequence[Measurable]
    logits: Sequence[Floats]  # (N, C) each
    targets: npt.NDArray[np.int64] | None  # (N,)
    times: Milliseconds  # (rounds, contenders)


def rows(measured: Measured, yardstick: str) -> list[dict[str, Any]]:
    """One row per contender.

    Args:
        measured: all contenders.
        yardstick: the name of the contender that latency is also compared with; it may be absent.
    """
    names = [contender.name for contender in measured.contenders]
    bases = {"float": 0} | ({"nncf": names.index(yardstick)} if yardstick in names else {})
    return [
        {"name": name, "input": contender.form.value, "size_mb": contender.size / 1e6}
        | _accuracy(measured, index)
        | dataclasses.asdict(latency(measured.times[:, index]))
        | {f"ratio_to_{base}": _ratio(measured.times[:, [column, index]]) for base, column in bases.items()}
        | {"made": contender.info}
        for index, (name, contender) in enumerate(zip(names, measured.contenders, strict=True))
    ]


def _accuracy(measured: Measured, index: int) -> dict[str, Any]:
    reference, own = measured.logits[0], measured.logits[index]
    sqnr = logit_sqnr_db(reference, own)
    figures: dict[str, Any] = {
        "agreement": agreement(reference, own),
        "logit_sqnr_db": None if math.isinf(sqnr) else sqnr,
    }
    if measured.targets is None:
        return figures
    right = [top_k_correct(logits, measured.targets, 1) for logits in (reference, own)]
    counts = paired_counts(*right)
    return figures | {
        "top1": 100.0 * float(right[1].mean()),
        "drop": 100.0 * counts.drop,
        "drop_interval_95": [
            100.0 * bound
            for bound in score_interval(
                counts.only_float_right, counts.only_quant_right, counts.n, CONFIDENCE
            )
        ],
        "lost": counts.only_float_right,
        "gained": counts.only_quant_right,
    }


def _ratio(times: Milliseconds) -> dict[str, Any]:
    """Of the second column to the first: within rounds, and of the least times.

    On a machine that others use, the least times are those that nobody disturbed.
    """
    within = ratios_to_first(times)[1]
    least = times.min(axis=0)
    return {
        "median": within.median,
        "quartiles": list(within.quartiles),
        "of_minima": float(least[1] / least[0]),
    }


def markdown(table: Sequence[dict[str, Any]]) -> str:
    """The rows as a markdown table; a row without figures says why in its note."""
    lines = [_line(HEADING), _line(["---", *["---:"] * (len(HEADING) - 1)])]
    return "\n".join(lines + [_line(_cells(row)) for row in table])


def _cells(row: dict[str, Any]) -> list[str]:
    if "note" in row:
        return [row["name"], row["note"], *[""] * (len(HEADING) - 2)]
    drop = ""
    if "drop" in row:
        low, high = row["drop_interval_95"]
        drop = f"{row['drop']:.2f} ({low:.2f} to {high:.2f})"
    return [
        row["name"],
        _number(row.get("top1"), 2),
        drop,
        _number(row["agreement"], 2),
        _number(row["logit_sqnr_db"], 1),
        _number(row["size_mb"], 1),
        _number(row["min_ms"], 2),
        _number(row["median_ms"], 2),
        _spread(row.get("ratio_to_float")),
        _spread(row.get("ratio_to_nncf")),
        _number(row.get("ratio_to_float", {}).get("of_minima"), 3),
        _number(row.get("ratio_to_nncf", {}).get("of_minima"), 3),
    ]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _spread(ratio: dict[str, Any] | None) -> str:
    if ratio is None:
        return ""
    low, high = ratio["quartiles"]
    return f"{ratio['median']:.3f} ({low:.3f} to {high:.3f})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def rounded(value: Any) -> Any:
    """Plain JSON with its numbers to four decimals, beyond which nothing here is measured."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    return value
