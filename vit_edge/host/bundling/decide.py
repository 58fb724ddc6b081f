"""What a build ships, of all that it saw: the decision, and the record of it in the manifest."""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from vit_edge.gate_report import GateReport
from vit_edge.host.bundling.pareto import Candidate, Choice, Timings, choose, reason_against
from vit_edge.host.bundling.repair import REPAIRED_TRIALS, Standing, Trial
from vit_edge.manifest import FileOutcome, IntegerGraph, MergingRecord, Repair, RepairRecord, Seen
from vit_edge.spec import Tolerance

FLOAT_NAME = "float32"


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """The quantization that was chosen for one file, and what becomes of it."""

    trial: Trial
    kept: bool
    """The file is in the bundle."""
    runs: bool
    """It is good enough to run; if not, the float model is to be preferred to it."""
    reason: str
    pareto: tuple[Seen, ...]
    """One row per model that was seen, the float one first."""
    timed_here: bool = True
    """Whether the times are those of a device that the file is for."""


@dataclasses.dataclass(frozen=True)
class Timed:
    """The file of each trial, timed against float."""

    timings: Timings
    """The float model, then the trials."""
    sizes: Sequence[float]
    """10^6 bytes, in the same order."""
    counts: bool
    """Whether these are the times of the device that the bundle is for."""


def decide(trials: Sequence[Trial], file: str, timed: Timed, mode: Repair) -> Outcome:
    """Choose for one file among the trials and the float model.

    Args:
        trials: at least one; each holds the file.
        file: its path in the bundle.
        timed: the float model and the file of each trial.
        mode: with NEVER the first trial is kept and runs, whatever the gate and the clock say.
    """
    reports = [trial.comparisons[file].report for trial in trials]
    candidates = [
        Candidate(FLOAT_NAME, Standing.PASS, 0.0),
        *(
            Candidate(trial.name, Standing.of(report), drop_at_most(report))
            for trial, report in zip(trials, reports, strict=True)
        ),
    ]
    if mode is Repair.NEVER:
        choice = Choice(1, True, "what the preset makes, kept as it is")
    else:
        choice = choose(candidates, timed.timings, time_counts=timed.counts)
    shipped = choice.integer if choice.runs else 0
    places = [
        _Place(
            ratio=round(timed.timings.ratio(i), 4),
            size_mb=timed.sizes[i],
            chosen=i == shipped,
            reason=choice.reason if i == shipped else reason_against(i, choice, candidates, timed.timings),
        )
        for i in range(len(candidates))
    ]
    rows = [_float_row(reports[0], places[0])]
    rows += [_row(trial, file, place) for trial, place in zip(trials, places[1:], strict=True)]
    kept = choice.runs or candidates[choice.integer].standing <= Standing.PLAUSIBLE
    return Outcome(trials[choice.integer - 1], kept, choice.runs, choice.reason, tuple(rows), timed.counts)


def drop_at_most(report: GateReport) -> float:
    """The upper end of the 95 % interval of what is lost."""
    return max(0.0, (report.drop_ci95 or report.evidence.disagreement_ci95)[1])


def record(
    trials: Sequence[Trial],
    outcomes: Mapping[str, Outcome],
    judged: str,
    mode: Repair,
    tolerance: Tolerance,
    fusion: IntegerGraph | None,
) -> RepairRecord:
    """What the manifest says about looking.

    Args:
        trials: all of them.
        outcomes: the decision about each file.
        judged: the file that figures speak of.
        mode: whether repair was allowed.
        tolerance: what was asked for.
        fusion: why integers do not pay, where they do not.
    """
    outcome = outcomes[judged]
    return RepairRecord(
        mode=mode,
        looks=len(trials),
        looks_allowed=1 if mode is Repair.NEVER else 1 + REPAIRED_TRIALS,
        confidence_first=tolerance.confidence,
        confidence_repaired=trials[-1].tolerance.confidence if len(trials) > 1 else None,
        chosen=outcome.trial.name if outcome.runs else FLOAT_NAME,
        kept=outcome.trial.name if outcome.kept else None,
        reason=outcome.reason,
        integer_graph=fusion,
        files={name: _about(name, each) for name, each in outcomes.items()},
    )


def merging_record(
    trials: Sequence[Trial], outcomes: Mapping[str, Outcome], count: int
) -> MergingRecord | None:
    """What the manifest says about merging tokens; None where nobody asked for it.

    Args:
        trials: all of them.
        outcomes: the decision about each file.
        count: tokens that were to merge in each block.
    """
    if not count:
        return None
    tried = next((trial for trial in trials if trial.merging is not None), None)
    if tried is None or tried.merging is None:
        why = "not tried: no quantization keeps the accuracy asked for, even with every token"
        return MergingRecord(count=count, tokens=(), files=dict.fromkeys(outcomes, why))
    files = {}
    for name, each in outcomes.items():
        row = next(row for row in each.pareto if row.name == tried.name)
        files[name] = f"merged: {each.reason}" if each.trial is tried else f"not merged: {row.reason}"
    return MergingRecord(count=count, tokens=tried.merging.tokens, files=files)


def _about(name: str, outcome: Outcome) -> FileOutcome:
    """What became of one file."""
    return FileOutcome(
        verdict=outcome.trial.comparisons[name].report.verdict,
        kept=outcome.trial.name if outcome.kept else None,
        good_enough=outcome.runs,
        reason=outcome.reason,
        timed_on_its_device=outcome.timed_here,
    )


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a model stands among all that were seen."""

    ratio: float
    """Of its latency to the float model's."""
    size_mb: float
    chosen: bool
    reason: str


def _float_row(report: GateReport, place: _Place) -> Seen:
    """The reference, which loses nothing; `report` is of any model compared with it."""
    return Seen(
        name=FLOAT_NAME,
        target_db=None,
        probe_db=None,
        forms=None,
        verdict=None,
        confidence=None,
        sqnr_db=None,
        top1=report.top1_float,
        agreement=100.0,
        top1_drop=None if report.drop is None else 0.0,
        drop_at_most=0.0,
        latency_ratio=place.ratio,
        size_mb=place.size_mb,
        chosen=place.chosen,
        reason=place.reason,
    )


def _row(trial: Trial, file: str, place: _Place) -> Seen:
    """Of one file of a trial."""
    found, report = trial.quantization, trial.comparisons[file].report
    return Seen(
        name=trial.name,
        target_db=None if found.goal is None else found.goal.target_db,
        probe_db=found.recipe.probe_db,
        forms=dict(Counter(layer.form.value for layer in found.layers)),
        verdict=report.verdict,
        confidence=trial.tolerance.confidence,
        sqnr_db=report.logit_sqnr_db if math.isfinite(report.logit_sqnr_db) else None,
        top1=report.top1_quant,
        agreement=report.agreement,
        top1_drop=report.drop,
        drop_at_most=drop_at_most(report),
        latency_ratio=place.ratio,
        size_mb=place.size_mb,
        chosen=place.chosen,
        reason=place.reason,
    )
