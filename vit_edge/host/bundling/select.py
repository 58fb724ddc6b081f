"""From a search to the quantization that is shipped: judged, repaired where it fails, timed, chosen."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from vit_edge.host.bundling.decide import Outcome, Timed, decide, record
from vit_edge.host.bundling.fusion import fusion_of
from vit_edge.host.bundling.pareto import Timings
from vit_edge.host.bundling.repair import Look, Repair, Standing, corrected, needs_repair, repaired
from vit_edge.host.bundling.trial import FileWanted, Trials
from vit_edge.host.quantize.search import Search
from vit_edge.host.quantize.types import Progress, Quantization
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


@dataclasses.dataclass(frozen=True, eq=False)
class Selected:
    """What the bundle holds, and why."""

    outcome: Outcome
    timed: BenchReport  # of the files in the bundle, the float one first
    repair: dict[str, Any]  # plain JSON, for the manifest


def select(
    search: Search, trials: Trials, default: FileWanted, settings: SelectSettings, progress: Progress
) -> Selected:
    """Judge what the preset makes, repair it where it fails, and choose among all that was seen, and float.

    Args:
        search: of the model that `trials` writes.
        trials: writes and judges.
        default: the file that is to run by default, one of those that `trials` writes.
        settings: what is good enough.
        progress: told what is being done.
    """
    looks = _looks(search, trials, settings, progress)
    columns = [(look.name, file) for look in looks for file in look.files]
    files = [file for look in looks for file in look.files.values()]
    progress("benchmark", 0, 1)
    timed = settings.bench([trials.gate.reference, *files], settings.timing)
    progress("benchmark", 1, 1)
    # on another machine than the device's, only the portable file runs as it is meant to
    counts = _runs_here(default.target)
    stands = [
        0,
        *(1 + columns.index((look.name, (default if counts else trials.wanted[0]).name)) for look in looks),
    ]
    sizes = [timed.models[column].size_mb for column in stands]
    outcome = decide(
        looks, default.name, Timed(Timings(timed.times[:, stands]), sizes, counts), settings.repair
    )
    fusion = None
    if outcome.kept and not outcome.runs:
        fusion = fusion_of(outcome.look.files[default.name], settings.timing.session)
    held = [0, *(1 + i for i, (look, _) in enumerate(columns) if outcome.kept and look == outcome.look.name)]
    looked = record(looks, outcome, settings.repair, settings.tolerance, fusion)
    return Selected(outcome, _only(timed, held), looked)


def _looks(search: Search, trials: Trials, settings: SelectSettings, progress: Progress) -> list[Look]:
    first = trials.look(search.settings.preset.value, search.first(), settings.tolerance)
    if settings.repair is Repair.NEVER or not needs_repair(first):
        return [first]
    strict = corrected(settings.tolerance)

    def look(name: str, quantization: Quantization) -> Look:
        progress(f"repair: {name}", 0, 1)
        seen = trials.look(name, quantization, strict)
        progress(f"repair: {name}, {seen.verdict.value}", 1, 1)
        return seen

    wanted = Standing.PASS if trials.gate.can_pass(strict) else Standing.PLAUSIBLE
    return repaired(search, first, look, wanted)


def _runs_here(target: TargetSpec) -> bool:
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
