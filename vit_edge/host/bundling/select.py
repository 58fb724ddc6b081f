"""From a search to the quantization that is shipped: judged, repaired where it fails, timed, chosen."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from vit_edge.host.bundling.decide import Outcome, Timed, decide, merging_record, record
from vit_edge.host.bundling.fusion import fusion_of
from vit_edge.host.bundling.pareto import Timings
from vit_edge.host.bundling.repair import REPAIRED_TRIALS, Standing, Trial, corrected, repaired
from vit_edge.host.bundling.trial import FileWanted, Tester
from vit_edge.host.convert.int8 import remeasured
from vit_edge.host.lower.model import lower
from vit_edge.host.quantize.search import Search
from vit_edge.host.quantize.types import Quantization
from vit_edge.host.rewrite.merging import merged
from vit_edge.manifest import MergingRecord, Repair, RepairRecord
from vit_edge.progress import Progress
from vit_edge.runtime.capabilities import fit_of, this_machine
from vit_edge.runtime.measure.benchmark import BenchReport, BenchSettings, bench
from vit_edge.runtime.model.file import ModelFile
from vit_edge.spec import TargetSpec, Tolerance

CPU = "cpu"  # the provider that builds check and time with
Bench = Callable[[Sequence[ModelFile], BenchSettings], BenchReport]


@dataclasses.dataclass(frozen=True)
class SelectSettings:
    """What is good enough, and how models are timed."""

    tolerance: Tolerance
    timing: BenchSettings
    repair: Repair = Repair.AUTO
    bench: Bench = bench
    merge_tokens: int = 0
    """That are tried to merge in each block."""


@dataclasses.dataclass(frozen=True, eq=False)
class Selected:
    """What the bundle holds, and why."""

    outcomes: Mapping[str, Outcome]
    """Of every file that was wanted, each judged by itself."""
    judged: str
    """The file that figures speak of: the one that runs by default, else the preferred one."""
    runs: str | None
    """The file that runs by default; None: the float model."""
    timed: BenchReport
    """Of the files in the bundle, the float one first."""
    repair: RepairRecord
    merging: MergingRecord | None = None
    """What became of merging tokens, where that was asked for."""

    @property
    def outcome(self) -> Outcome:
        """Of the file that figures speak of."""
        return self.outcomes[self.judged]

    @property
    def files(self) -> dict[str, ModelFile]:
        """The INT8 files that the bundle holds."""
        return {name: each.trial.files[name] for name, each in self.outcomes.items() if each.kept}


def select(
    search: Search, tester: Tester, preferred: FileWanted, settings: SelectSettings, progress: Progress
) -> Selected:
    """Judge what the preset makes, repair it where it fails, and choose for every file among all seen.

    A file that fails drags no other along: each has the quantization that suits it, a verdict and a reason.

    Args:
        search: of the model that `tester` writes.
        tester: writes and judges.
        preferred: the file that is to run by default if it is good enough; else another that is, else float.
        settings: what is good enough.
        progress: told what is being done.
    """
    trials = _trials(search, tester, settings, progress)
    columns = [(trial.name, file) for trial in trials for file in trial.files]
    files = [file for trial in trials for file in trial.files.values()]
    progress("benchmark", 0, 1)
    timed = settings.bench([tester.gate.reference, *files], settings.timing)
    progress("benchmark", 1, 1)
    outcomes = {
        each.name: _outcome(
            each, [trial for trial in trials if each.name in trial.files], columns, timed, settings
        )
        for each in tester.wanted
    }
    order = [preferred.name, *(each.name for each in tester.wanted if each is not preferred)]
    runs = next((name for name in order if outcomes[name].runs), None)
    judged = runs or preferred.name
    outcome = outcomes[judged]
    fusion = None
    if outcome.kept and not outcome.runs:
        fusion = fusion_of(outcome.trial.files[judged], settings.timing.session)
    held = [1 + columns.index((each.trial.name, name)) for name, each in outcomes.items() if each.kept]
    looked = record(trials, outcomes, judged, settings.repair, settings.tolerance, fusion)
    merging = merging_record(trials, outcomes, settings.merge_tokens)
    return Selected(outcomes, judged, runs, _only(timed, [0, *held]), looked, merging)


def _outcome(
    wanted: FileWanted,
    trials: Sequence[Trial],
    columns: Sequence[tuple[str, str]],
    timed: BenchReport,
    settings: SelectSettings,
) -> Outcome:
    """The decision about one file, among the trials that it was in."""
    places = [0, *(1 + columns.index((trial.name, wanted.name)) for trial in trials)]
    sizes = [timed.models[place].size_mb for place in places]
    timings = Timed(Timings(timed.times[:, places]), sizes, runs_here(wanted.target))
    return decide(trials, wanted.name, timings, settings.repair)


def _trials(search: Search, tester: Tester, settings: SelectSettings, progress: Progress) -> list[Trial]:
    """Every token kept, until that is good enough; then, if asked for, the best of these with some merged."""
    kept = _with_all_tokens(search, tester, settings, progress)
    good = [trial for trial in kept if trial.standing <= Standing.PLAUSIBLE]
    if not settings.merge_tokens or not good:
        return kept
    best = good[0]
    if len(good) > 1:  # layers are timed
        best = min(good, key=lambda trial: search.milliseconds(trial.quantization))
    name = f"{best.name}, {settings.merge_tokens} tokens merged per block"
    progress(name, 0, 1)
    model = merged(search.canonical, settings.merge_tokens, search.folded.frames)
    lowered = lower(model, search.lowering, best.quantization.plan, check=False)
    quantization = remeasured(search, best.quantization, lowered)
    seen = tester.trial(name, quantization, corrected(settings.tolerance), canonical=model)
    progress(f"{name}, {seen.verdict.value}", 1, 1)
    return [*kept, seen]


def _with_all_tokens(
    search: Search, tester: Tester, settings: SelectSettings, progress: Progress
) -> list[Trial]:
    first = tester.trial(search.settings.preset.value, search.first(), settings.tolerance)
    failing = first.failing
    if settings.repair is Repair.NEVER or not failing:
        return [first]
    strict = corrected(settings.tolerance)

    def trial(name: str, quantization: Quantization) -> Trial:
        progress(f"repair: {name}", 0, 1)
        seen = tester.trial(name, quantization, strict, failing)
        progress(f"repair: {name}, {seen.verdict.value}", 1, 1)
        return seen

    wanted = Standing.PASS if tester.gate.can_pass(strict) else Standing.PLAUSIBLE
    most = REPAIRED_TRIALS - 1 if settings.merge_tokens else REPAIRED_TRIALS  # merging is a look, too
    return repaired(search, first, trial, wanted, most)


def runs_here(target: TargetSpec) -> bool:
    """Whether latencies taken on this machine's CPU are those of a device of this class."""
    return target.provider.name == CPU and fit_of(target, this_machine()).available


def _only(report: BenchReport, columns: Sequence[int]) -> BenchReport:
    """The same of some of the models, the first of all among them."""
    return dataclasses.replace(
        report,
        models=tuple(report.models[i] for i in columns),
        ratios=tuple(report.ratios[i] for i in columns),
        times=report.times[:, columns],
    )
