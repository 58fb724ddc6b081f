"""The report on any two ONNX classifiers."""

from pathlib import Path

from vit_edge.bundle import MODEL_ROLES, Role, read_bundle
from vit_edge.host.report.gather import Measured, gather
from vit_edge.host.report.page import render
from vit_edge.manifest import Manifest
from vit_edge.runtime.evaluate.comparison import Comparison
from vit_edge.runtime.measure.benchmark import BenchSettings, bench
from vit_edge.runtime.measure.timing import Rounds
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.session import SessionSettings


def comparison_report(
    reference: ModelFile,
    quantized: ModelFile,
    comparison: Comparison,
    session: SessionSettings,
    bundle: Path | None = None,
    rounds: Rounds | None = None,
) -> str:
    """Time both models in turn, look into the second, and write down what is known; what is not is said.

    Args:
        reference: the float model.
        quantized: what is judged.
        comparison: of the two.
        session: how they ran.
        bundle: the folder that the judged model was read from, where it is a bundle.
        rounds: of timing.

    Returns:
        HTML.

    Raises:
        MissingExtraError: matplotlib, onnx or jinja2 is not installed.
        ModelError: a model cannot be timed, profiled or observed.
    """
    timed = bench([reference, quantized], BenchSettings(session, rounds=rounds or Rounds()))
    names = _names(reference.path, quantized.path)
    measured = Measured(names, (reference, quantized), (comparison,), timed, session)
    manifest = None if bundle is None else _manifest(bundle, quantized)
    title = names[1] if manifest is None else manifest.source.name
    return render(gather(measured, names[1], title, manifest))


def _names(first: Path, second: Path) -> tuple[str, str]:
    """The last parts of both paths, as many as tell them apart, at least two."""
    for parts in range(2, max(len(first.parts), len(second.parts)) + 1):
        names = "/".join(first.parts[-parts:]), "/".join(second.parts[-parts:])
        if names[0] != names[1]:
            return names
    return names[0], f"{names[1]} (again)"


def _manifest(folder: Path, model: ModelFile) -> Manifest | None:
    """Of the bundle, unless the judged model is its float one, about which the decisions say nothing."""
    manifest = read_bundle(folder).manifest
    roles = {entry.sha256: entry.role for entry in manifest.files.values() if entry.role in MODEL_ROLES}
    return None if roles.get(model.sha256) is Role.FLOAT else manifest
