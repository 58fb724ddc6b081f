"""What a bundle's manifest records of its check, of its INT8 files, and of the tools that made them."""

from collections.abc import Mapping, Sequence

from vit_edge import __version__
from vit_edge.host.bundling.images import BuildImages
from vit_edge.host.bundling.repair import Trial
from vit_edge.host.bundling.select import Selected
from vit_edge.host.bundling.trial import FileWanted
from vit_edge.host.quantize.types import Quantization
from vit_edge.manifest import (
    AccuracyRecord,
    CheckData,
    CompiledRecord,
    EmbedderRecord,
    FileRecipe,
    Narrowed,
    Parity,
    Recipe,
)
from vit_edge.runtime.device.machine import version_of
from vit_edge.runtime.evaluate.comparison import Comparison
from vit_edge.spec import Arithmetic, QuantizedOperators, TargetSpec

_TOOLS = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy", "pillow")


def accuracy_record(
    selected: Selected, reference: str, parity: Mapping[str, Parity], images: BuildImages
) -> AccuracyRecord:
    """The figures of the file that runs by default, and those of each file.

    Where the float model is what runs, those of the preferred file as it was judged best.

    Args:
        selected: what was judged.
        reference: the float model's name in the bundle.
        parity: of each step towards it.
        images: what the check used.
    """
    reports = {name: each.trial.comparisons[name].report for name, each in selected.outcomes.items()}
    trial = selected.outcome.trial
    comparison = trial.comparisons[selected.judged]
    return AccuracyRecord(
        report=reports[selected.judged],
        model=selected.judged,
        reference=reference,
        data=_data(comparison, images),
        tolerance=trial.tolerance,
        notes=comparison.notes,
        models=reports,
        parity=parity,
    )


def _data(comparison: Comparison, images: BuildImages) -> CheckData:
    """The check images, and how many of them are evidence."""
    copies = comparison.copies
    return CheckData(
        name=images.check.name,
        images=len(images.check),
        labelled=images.check.labelled,
        held_out_of_calibration=images.held_out,
        calibration_images_left_out=images.left_out,
        copies_left_out=0 if copies is None else copies.left_out,
        scenes=comparison.report.n if copies is None else copies.scenes,
    )


def recipe_record(
    selected: Selected,
    wanted: Sequence[FileWanted],
    embedder: EmbedderRecord | None,
    compiled: tuple[CompiledRecord, ...],
) -> Recipe:
    """How the INT8 files were made, and all that were seen.

    Args:
        selected: what was judged.
        wanted: the files that the bundle was to hold.
        embedder: of the embedders, where it holds any.
        compiled: what compilers of targets made.
    """
    return Recipe(
        method=selected.outcome.trial.quantization.recipe,
        models={
            each.name: _made(selected.outcomes[each.name].trial, each.target)
            for each in wanted
            if each.name in selected.files
        },
        pareto=selected.outcome.pareto,
        repair=selected.repair,
        merging=selected.merging,
        embedder=embedder,
        compiled=compiled,
    )


def _made(trial: Trial, target: TargetSpec) -> FileRecipe:
    """What one INT8 file was made for."""
    return FileRecipe(
        target=target.name,
        integer_attention=target.integer_attention,
        activations=target.form.activations,
        elsewhere=target.form.float_type,
        narrowed=_reduced(trial.quantization, target),
        verification=target.verification,
        merged_tokens=0 if trial.merging is None else trial.merging.count,
    )


def _reduced(found: Quantization, target: TargetSpec) -> dict[str, Narrowed] | None:
    """Which operands of a target's file have fewer steps; None where all have eight bits."""
    if (
        target.arithmetic is not Arithmetic.SATURATING
        or target.quantized_operators is QuantizedOperators.NONE
    ):
        return None
    return {each.name: Narrowed(each.columns, each.of, each.steps) for each in found.reduced}


def tool_versions() -> dict[str, str]:
    """Of what a build rests on."""
    found = {tool: version_of(tool) or "not installed as a package" for tool in _TOOLS}
    return {"vit-edge": __version__, **found}
