"""Repair of a quantization that fails the gate: a higher goal until it passes, then back what was not needed.

Nothing is calibrated or measured layer by layer again: every step solves the same search for another goal.

How often one may look. A PASS uses only the upper end of a two-sided interval, and so the first look, at the
confidence c that was asked for, passes a model that it should not with a probability of at most (1 - c) / 2.
The repaired models share as much again (Bonferroni): with R looks allowed, each is judged at the confidence
1 - (1 - c) / R. Whatever is looked at and in whichever order, a build passes wrongly with at most 1 - c.
"""

import dataclasses
import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from vit_edge.gate_report import GateReport
from vit_edge.host.quantize.choose import Upgrade
from vit_edge.host.quantize.types import GOALS, Form, Goal, Quantization
from vit_edge.host.rewrite.canonical import Merging
from vit_edge.runtime.evaluate.comparison import Comparison
from vit_edge.runtime.model.file import ModelFile
from vit_edge.spec import Tolerance, Verdict

REPAIRED_TRIALS = 5  # at the gate, after the first
BEYOND = Goal(33.0, float_layers=True)  # twice as quiet as the most accurate preset
LADDER = sorted([*filter(None, GOALS.values()), BEYOND], key=lambda goal: goal.target_db)
WORTH_A_TRIAL = 0.01  # share of the layers' time that a step back must save


class Standing(enum.IntEnum):
    """What the gate says of a model, the best first."""

    PASS = 0
    PLAUSIBLE = 1  # undecided, with an estimate that is tolerated
    DOUBTFUL = 2  # undecided, with an estimate that is not
    FAIL = 3

    @classmethod
    def of(cls, report: GateReport) -> "Standing":
        """Of one model."""
        if report.verdict is not Verdict.UNDECIDED:
            return cls.PASS if report.verdict is Verdict.PASS else cls.FAIL
        return cls.PLAUSIBLE if report.plausible else cls.DOUBTFUL


VERDICTS = {
    Standing.PASS: Verdict.PASS,
    Standing.PLAUSIBLE: Verdict.UNDECIDED,
    Standing.DOUBTFUL: Verdict.UNDECIDED,
    Standing.FAIL: Verdict.FAIL,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """One quantization at the gate."""

    name: str
    quantization: Quantization
    files: Mapping[str, ModelFile]
    """By path in the bundle, for each form that the bundle is to hold."""
    comparisons: Mapping[str, Comparison]
    """Of the same files with the float model."""
    merging: Merging | None = None
    """Where tokens merge in these files."""

    @property
    def reports(self) -> list[GateReport]:
        """One per file."""
        return [comparison.report for comparison in self.comparisons.values()]

    @property
    def standing(self) -> Standing:
        """That of its worst file."""
        return max(map(Standing.of, self.reports))

    @property
    def verdict(self) -> Verdict:
        """That of its worst file."""
        return VERDICTS[self.standing]

    @property
    def failing(self) -> frozenset[str]:
        """The files that fail, or seem to, and so are to be repaired."""
        return frozenset(
            name
            for name, comparison in self.comparisons.items()
            if Standing.of(comparison.report) >= Standing.DOUBTFUL
        )

    @property
    def tolerance(self) -> Tolerance:
        """What it was judged by."""
        return self.reports[0].evidence.tolerance


class Searching(Protocol):
    """The part of a `Search` that repair needs."""

    def reach(self, goal: Goal) -> Quantization:
        """The fastest forms that reach a goal."""
        ...

    def upgrades(self, given: Quantization) -> list[Upgrade]:
        """What of it costs time, the most worthy first."""
        ...

    def trimmed(self, given: Quantization, kept: int) -> Quantization:
        """The same with fewer upgrades."""
        ...

    def milliseconds(self, given: Quantization) -> float:
        """What its layers cost together."""
        ...


Try = Callable[[str, Quantization], Trial]  # writes the files of a quantization, by name, and judges them


def corrected(tolerance: Tolerance) -> Tolerance:
    """What a repaired model is judged by: see the module's docstring."""
    return dataclasses.replace(tolerance, confidence=1.0 - (1.0 - tolerance.confidence) / REPAIRED_TRIALS)


def repaired(
    search: Searching, first: Trial, try_: Try, wanted: Standing, most: int = REPAIRED_TRIALS
) -> list[Trial]:
    """Try better quantizations until one is good enough, then at faster ones.

    Args:
        search: what is known about the layers.
        first: what was found wanting.
        try_: judges a quantization, by the corrected tolerance.
        wanted: what is good enough; PASS where the images can show that of any model.
        most: trials beside the first.

    Returns:
        All trials, the first included, in their order.
    """
    trials = [first]
    seen = {_forms(first.quantization)}
    for goal in _rungs(first.quantization):
        if len(trials) > most:
            break
        found = search.reach(goal)
        if _forms(found) in seen:
            continue
        seen.add(_forms(found))
        trials.append(try_(f"{goal.target_db:g} dB", found))
        if trials[-1].standing <= wanted:
            return [*trials, *_stepped_back(search, trials, try_, wanted, most)]
    return trials


def _rungs(found: Quantization) -> Iterator[Goal]:
    """The goals above what was aimed at and what was reached."""
    reached = found.recipe.probe_db
    least = reached if found.goal is None else max(reached, found.goal.target_db)
    return (goal for goal in LADDER if goal.target_db > least)


def _stepped_back(
    search: Searching, trials: Sequence[Trial], try_: Try, wanted: Standing, most: int
) -> Iterator[Trial]:
    """Bisect how many of the upgrades that cost time are needed, down to what failed before."""
    good = trials[-1].quantization
    before = {upgrade.name for upgrade in search.upgrades(trials[-2].quantization)}
    upgrades = search.upgrades(good)
    enough, too_few = len(upgrades), sum(upgrade.name in before for upgrade in upgrades)
    best = good
    for _ in range(most + 1 - len(trials)):
        kept = (enough + too_few) // 2
        if kept <= too_few:
            break
        found = search.trimmed(good, kept)
        saved = search.milliseconds(best) - search.milliseconds(found)
        if saved < WORTH_A_TRIAL * search.milliseconds(best):
            break
        trial = try_(f"{trials[-1].name}, {kept} of {len(upgrades)} upgrades", found)
        yield trial
        if trial.standing <= wanted:
            enough, best = kept, found
        else:
            too_few = kept


def _forms(found: Quantization) -> frozenset[tuple[str, Form]]:
    return frozenset((layer.name, layer.form) for layer in found.layers)
