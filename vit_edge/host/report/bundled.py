"""The report inside a bundle."""

from vit_edge.host.bundling.select import Bench, Selected
from vit_edge.host.report.gather import Measured, gather
from vit_edge.host.report.needs import is_installed
from vit_edge.host.report.page import render
from vit_edge.manifest import Manifest
from vit_edge.progress import Progress
from vit_edge.runtime.measure.benchmark import BenchSettings
from vit_edge.runtime.model.file import ModelFile

REPORT = "report.html"


def measure_selected(
    name: str, float_model: ModelFile, selected: Selected, timing: BenchSettings, time: Bench
) -> Measured:
    """The float model and every INT8 file as it was judged best, kept or not.

    Args:
        name: of the float model in the bundle.
        float_model: the reference.
        selected: from `select`; its files must still be where they were written.
        timing: how to time what has not been timed.
        time: does it.
    """
    trials = {file: each.trial for file, each in selected.outcomes.items()}
    files = {name: float_model, **{file: trial.files[file] for file, trial in trials.items()}}
    kept = all(each.kept for each in selected.outcomes.values())
    timed = selected.timed if kept else time(list(files.values()), timing)
    comparisons = tuple(trial.comparisons[file] for file, trial in trials.items())
    return Measured(tuple(files), tuple(files.values()), comparisons, timed, timing.session)


def bundle_report(
    measured: Measured, judged: str, manifest: Manifest, held_out: bool, progress: Progress
) -> dict[str, str]:
    """The report under its name; nothing where what draws its charts is not installed.

    Args:
        measured: from `measure_selected`.
        judged: name of the INT8 file that the report is about.
        manifest: complete but for the documents.
        held_out: the check images were taken from those given for calibration.
        progress: told what is being done.

    Raises:
        ModelError: a model cannot be run with its inner tensors as outputs.
        ImageError: a check image cannot be read any more.
    """
    if not is_installed():
        return {}
    progress("report", 0, 1)
    page = render(gather(measured, judged, manifest.source.name, manifest, held_out))
    progress("report", 1, 1)
    return {REPORT: page}
