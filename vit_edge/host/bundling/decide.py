"""What a build ships, of all that it saw: the decision, and the record of it in the manifest."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from vit_edge.host.bundling.fusion import Fusion
from vit_edge.host.bundling.pareto import Candidate, Choice, Timings, choose, reason_against
from vit_edge.host.bundling.repair import REPAIRED_LOOKS, Look, Repair, Standing
from vit_edge.spec import Tolerance
from vit_edge.verify import GateReport

FLOAT_NAME = "float32"


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """The quantization that was chosen, and what becomes of it."""

    look: Look
    kept: bool  # its files are in the bundle
    runs: bool  # one of them is what runs by default; if not, the float model is
    reason: str
    pareto: tuple[dict[str, Any], ...]  # one row per model that was seen, the float one first


@dataclasses.dataclass(frozen=True)
class Timed:
    """The file of each look that stands for it, timed against float."""

    timings: Timings  # the float model, then the looks
    sizes: Sequence[float]  # 10^6 bytes, in the same order
    counts: bool  # whether these are the times of the device that the bundle is for


def decide(looks: Sequence[Look], default: str, timed: Timed, mode: Repair) -> Outcome:
    """Choose among the looks and the float model.

    Args:
        looks: at least one.
        default: path in the bundle of the file that would run by default.
        timed: the float model and that file of each look.
        mode: with NEVER the first look is kept and runs, whatever the gate and the clock say.
    """
    candidates = [
        Candidate(FLOAT_NAME, Standing.PASS, 0.0),
        *(Candidate(look.name, look.standing, drop_at_most(look)) for look in looks),
    ]
    if mode is Repair.NEVER:
        choice = Choice(1, True, "what the preset makes, kept as it is")
    else:
        choice = choose(candidates, timed.timings, time_counts=timed.counts)
    rows = [_float_row(looks[0].comparisons[default].report)]
    rows += [_row(look, default) for look in looks]
    shipped = choice.integer if choice.runs else 0
    for i, row in enumerate(rows):
        row["latency_ratio"] = round(timed.timings.ratio(i), 4)
        row["size_mb"] = timed.sizes[i]
        row["chosen"] = i == shipped
        row["reason"] = (
            choice.reason if i == shipped else reason_against(i, choice, candidates, timed.timings)
        )
    look = looks[choice.integer - 1]
    kept = choice.runs or look.standing <= Standing.PLAUSIBLE
    return Outcome(look, kept, choice.runs, choice.reason, tuple(rows))


def drop_at_most(look: Look) -> float:
    """The upper end of the 95 % interval of what is lost, of its worst file."""
    uppers = [(report.drop_ci95 or report.evidence.disagreement_ci95)[1] for report in look.reports]
    return max(0.0, *uppers)


def record(
    looks: Sequence[Look], outcome: Outcome, mode: Repair, tolerance: Tolerance, fusion: Fusion | None
) -> dict[str, Any]:
    """What the manifest says about looking, in plain JSON types.

    Args:
        looks: all of them.
        outcome: the decision.
        mode: whether repair was allowed.
        tolerance: what was asked for.
        fusion: why integers do not pay, where they do not.
    """
    return {
        "mode": mode.value,
        "looks": len(looks),
        "looks_allowed": 1 if mode is Repair.NEVER else 1 + REPAIRED_LOOKS,
        "confidence_first": tolerance.confidence,
        "confidence_repaired": looks[-1].tolerance.confidence if len(looks) > 1 else None,
        "chosen": outcome.look.name if outcome.runs else FLOAT_NAME,
        "kept": outcome.look.name if outcome.kept else None,
        "reason": outcome.reason,
        "integer_graph": None if fusion is None else fusion.to_json(),
    }


def _float_row(report: GateReport) -> dict[str, Any]:
    """The reference, which loses nothing; `report` is of any model compared with it."""
    nothing = dict.fromkeys(["target_db", "probe_db", "forms", "verdict", "confidence", "sqnr_db"])
    zeros = {"top1_drop": None if report.drop is None else 0.0, "drop_at_most": 0.0}
    return {"name": FLOAT_NAME, **nothing, "top1": report.top1_float, "agreement": 100.0, **zeros}


def _row(look: Look, default: str) -> dict[str, Any]:
    """The verdict and the largest loss are those of the worst file, the figures those of the default one."""
    found, report = look.quantization, look.comparisons[default].report
    raw = report.to_json()
    return {
        "name": look.name,
        "target_db": None if found.goal is None else found.goal.target_db,
        "probe_db": found.recipe["probe_db"],
        "forms": dict(Counter(layer.form.value for layer in found.layers)),
        "verdict": look.verdict.value,
        "confidence": look.tolerance.confidence,
        "top1": raw["top1_quant"],
        "agreement": raw["agreement"],
        "top1_drop": raw["drop"],
        "drop_at_most": drop_at_most(look),
        "sqnr_db": raw["logit_sqnr_db"],
    }
