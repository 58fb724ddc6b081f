"""What a build ships, of all that it saw: the decision, and the record of it in the manifest."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vit_edge.host.bundling.fusion import Fusion
from vit_edge.host.bundling.pareto import Candidate, Choice, Timings, choose, reason_against
from vit_edge.host.bundling.repair import REPAIRED_LOOKS, Look, Repair, Standing
from vit_edge.spec import Tolerance
from vit_edge.verify import GateReport

FLOAT_NAME = "float32"


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """The quantization that was chosen for one file, and what becomes of it."""

    look: Look
    kept: bool  # the file is in the bundle
    runs: bool  # it is good enough to run; if not, the float model is to be preferred to it
    reason: str
    pareto: tuple[dict[str, Any], ...]  # one row per model that was seen, the float one first
    timed_here: bool = True  # whether the times are those of a device that the file is for


@dataclasses.dataclass(frozen=True)
class Timed:
    """The file of each look, timed against float."""

    timings: Timings  # the float model, then the looks
    sizes: Sequence[float]  # 10^6 bytes, in the same order
    counts: bool  # whether these are the times of the device that the bundle is for


def decide(looks: Sequence[Look], file: str, timed: Timed, mode: Repair) -> Outcome:
    """Choose for one file among the looks and the float model.

    Args:
        looks: at least one; each holds the file.
        file: its path in the bundle.
        timed: the float model and the file of each look.
        mode: with NEVER the first look is kept and runs, whatever the gate and the clock say.
    """
    reports = [look.comparisons[file].report for look in looks]
    candidates = [
        Candidate(FLOAT_NAME, Standing.PASS, 0.0),
        *(
            Candidate(look.name, Standing.of(report), drop_at_most(report))
            for look, report in zip(looks, reports, strict=True)
        ),
    ]
    if mode is Repair.NEVER:
        choice = Choice(1, True, "what the preset makes, kept as it is")
    else:
        choice = choose(candidates, timed.timings, time_counts=timed.counts)
    rows = [_float_row(reports[0])]
    rows += [_row(look, file) for look in looks]
    shipped = choice.integer if choice.runs else 0
    for i, row in enumerate(rows):
        row["latency_ratio"] = round(timed.timings.ratio(i), 4)
        row["size_mb"] = timed.sizes[i]
        row["chosen"] = i == shipped
        row["reason"] = (
            choice.reason if i == shipped else reason_against(i, choice, candidates, timed.timings)
        )
    kept = choice.runs or candidates[choice.integer].standing <= Standing.PLAUSIBLE
    return Outcome(looks[choice.integer - 1], kept, choice.runs, choice.reason, tuple(rows), timed.counts)


def drop_at_most(report: GateReport) -> float:
    """The upper end of the 95 % interval of what is lost."""
    return max(0.0, (report.drop_ci95 or report.evidence.disagreement_ci95)[1])


def record(
    looks: Sequence[Look],
    outcomes: Mapping[str, Outcome],
    judged: str,
    mode: Repair,
    tolerance: Tolerance,
    fusion: Fusion | None,
) -> dict[str, Any]:
    """What the manifest says about looking, in plain JSON types.

    Args:
        looks: all of them.
        outcomes: the decision about each file.
        judged: the file that figures speak of.
        mode: whether repair was allowed.
        tolerance: what was asked for.
        fusion: why integers do not pay, where they do not.
    """
    outcome = outcomes[judged]
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
        "files": {name: _about(name, each) for name, each in outcomes.items()},
    }


def _about(name: str, outcome: Outcome) -> dict[str, Any]:
    """What became of one file."""
    return {
        "verdict": outcome.look.comparisons[name].report.verdict.value,
        "kept": outcome.look.name if outcome.kept else None,
        "good_enough": outcome.runs,
        "reason": outcome.reason,
        "timed_on_its_device": outcome.timed_here,
    }


def _float_row(report: GateReport) -> dict[str, Any]:
    """The reference, which loses nothing; `report` is of any model compared with it."""
    nothing = dict.fromkeys(["target_db", "probe_db", "forms", "verdict", "confidence", "sqnr_db"])
    zeros = {"top1_drop": None if report.drop is None else 0.0, "drop_at_most": 0.0}
    return {"name": FLOAT_NAME, **nothing, "top1": report.top1_float, "agreement": 100.0, **zeros}


def _row(look: Look, file: str) -> dict[str, Any]:
    """Of one file of a look."""
    found, report = look.quantization, look.comparisons[file].report
    raw = report.to_json()
    return {
        "name": look.name,
        "target_db": None if found.goal is None else found.goal.target_db,
        "probe_db": found.recipe["probe_db"],
        "forms": dict(Counter(layer.form.value for layer in found.layers)),
        "verdict": report.verdict.value,
        "confidence": look.tolerance.confidence,
        "top1": raw["top1_quant"],
        "agreement": raw["agreement"],
        "top1_drop": raw["drop"],
        "drop_at_most": drop_at_most(report),
        "sqnr_db": raw["logit_sqnr_db"],
    }
