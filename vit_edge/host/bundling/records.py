"""What a bundle's manifest records of its check, of its INT8 files, and of the tools that made them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from vit_edge import __version__
from vit_edge.host.bundling.proof import BuildImages
from vit_edge.host.bundling.select import Selected
from vit_edge.host.bundling.trial import FileWanted
from vit_edge.host.convert.parity import Parity
from vit_edge.host.quantize.types import Quantization
from vit_edge.runtime.device.machine import version_of
from vit_edge.runtime.evaluate.compare import Comparison
from vit_edge.spec import Arithmetic, QuantizedOperators, TargetSpec

_TOOLS = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy", "pillow")


def accuracy_record(
    selected: Selected, reference: str, parity: Mapping[str, Parity], images: BuildImages
) -> dict[str, Any]:
    """The figures of the file that runs by default, and those of each file.

    Where the float model is what runs, those of the preferred file as it was judged best.

    Args:
        selected: what was judged.
        reference: the float model's name in the bundle.
        parity: of each step towards it.
        images: what the check used.
    """
    by_name = {name: each.look.comparisons[name].report.to_json() for name, each in selected.outcomes.items()}
    judged, look = selected.judged, selected.outcome.look
    comparison = look.comparisons[judged]
    return by_name[judged] | {
        "model": judged,
        "reference": reference,
        "data": images.to_json() | _counted(comparison),
        "tolerance": dataclasses.asdict(look.tolerance),
        "notes": list(comparison.notes),
        "models": by_name,
        "parity": {step: dataclasses.asdict(found) for step, found in parity.items()},
    }


def _counted(comparison: Comparison) -> dict[str, int]:
    """How many of the check images are evidence."""
    copies = comparison.copies
    return {
        "copies_left_out": 0 if copies is None else copies.left_out,
        "scenes": comparison.report.n if copies is None else copies.scenes,
    }


def forms_record(selected: Selected, wanted: Sequence[FileWanted]) -> dict[str, dict[str, Any]]:
    """Per INT8 file that is kept, what it was made for."""
    return {
        each.name: {
            "target": each.target.name,
            "integer_attention": each.target.integer_attention,
            "activations": each.target.form.activations.value,
            "elsewhere": each.target.form.float_type.value,
            "narrowed": _reduced(selected.outcomes[each.name].look.quantization, each.target),
            "verification": [entry.to_json() for entry in each.target.verification],
        }
        for each in wanted
        if each.name in selected.files
    }


def _reduced(found: Quantization, target: TargetSpec) -> dict[str, dict[str, int]] | None:
    """Which operands of a target's file have fewer steps; None where all have eight bits."""
    if (
        target.arithmetic is not Arithmetic.SATURATING
        or target.quantized_operators is QuantizedOperators.NONE
    ):
        return None
    return {
        each.name: {"columns": each.columns, "of": each.of, "steps": each.steps} for each in found.reduced
    }


def tool_versions() -> dict[str, str]:
    """Of what a build rests on."""
    found = {tool: version_of(tool) or "not installed as a package" for tool in _TOOLS}
    return {"vit-edge": __version__, **found}
