"""The README.md of a bundle: what the model is, what was measured, and how to run it."""

import json
import math
from collections import Counter

from vit_edge import plain
from vit_edge.host.bundling.transformers_js import measured
from vit_edge.host.rewrite.description import Description
from vit_edge.host.templates import render
from vit_edge.manifest import Manifest
from vit_edge.source_parity import SourceParity
from vit_edge.spec import OutputKind, PreprocessSpec, ResizeMode, Verdict
from vit_edge.verify.judged import Judged

_VERDICTS = {
    Verdict.PASS: "the {} stays within the tolerance",
    Verdict.FAIL: "the {} exceeds the tolerance",
    Verdict.UNDECIDED: "the images are too few to tell whether the {} stays within the tolerance",
}
_MEANINGS = {
    OutputKind.MULTI_LABEL: "Each label is there or not by itself: its score is its logit's sigmoid.",
    OutputKind.BINARY: "One logit says no or yes: the score is its sigmoid.",
    OutputKind.REGRESSION: "The numbers are values, not classes.",
    OutputKind.EMBEDDING: "It gives an embedding of the image, to be compared with others by cosine.",
    OutputKind.UNIT_EMBEDDING: "It gives an embedding of the image, of length 1: the cosine of two is their "
    "dot product.",
    OutputKind.MAP: "It gives maps: a number for every place, behind whatever the graph ends in.",
}

_BOXES = (
    "It gives boxes: centre, width and height in shares of what it sees, and logits, the last of nothing."
)


def card(manifest: Manifest, description: Description | None) -> str:
    """Markdown with a Hugging Face model card's front matter.

    Args:
        manifest: of a build, complete but for this file.
        description: the canonical graph's sizes, where it is one.
    """
    accuracy, recipe = manifest.accuracy, manifest.quantization
    assert accuracy is not None and recipe is not None  # noqa: S101, PT018  a build records them
    judged = Judged.of(accuracy.report)
    boxes = accuracy.report.evidence.boxes
    values = {
        "source": manifest.source,
        "sizes": description,
        "meaning": _BOXES if boxes else _MEANINGS.get(manifest.output),
        "boxes": boxes,
        "source_line": source_line(manifest.source_parity),
        "accuracy": accuracy,
        "findings": manifest.findings,
        "data": accuracy.data,
        "evidence": accuracy.report.evidence,
        "maps": tuple(dict.fromkeys(each.output for each in accuracy.report.evidence.maps)),
        "embeddings": accuracy.report.evidence.embeddings,
        "verdict": _VERDICTS[accuracy.report.verdict].format(judged.what),
        "limit": judged.tolerated,
        "latency": manifest.latency,
        "default_model": manifest.default_model,
        "recipe": recipe,
        "repair": recipe.repair,
        "method": {key: _value(value) for key, value in plain.of(recipe.method).items()},
        "preprocess": manifest.preprocess,
        "resize": _resize(manifest.preprocess),
        "transformers_js": measured().sentence,
        "forms": Counter(layer.form for layer in manifest.layers),
    }
    return render("card.md.j2", values)


def source_line(parity: SourceParity) -> str:
    """What the card says of the proof source → float."""
    return f"- source → float: **{parity.state.value}**, {parity.reason}"


def _resize(spec: PreprocessSpec) -> str:
    size = f"{spec.resize[0]}x{spec.resize[1]}"
    return {
        ResizeMode.NONE: "no resize",
        ResizeMode.SHORT_SIDE: f"short side to {spec.resize[0]} pixels ({spec.interpolation.value})",
        ResizeMode.EXACT: f"resize to {size} pixels ({spec.interpolation.value})",
        ResizeMode.COVER: f"resize to cover {size} ({spec.interpolation.value})",
    }[spec.resize_mode]


def _value(value: object) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    if isinstance(value, list):
        return str(len(value))  # the manifest holds them
    return value if isinstance(value, str) else json.dumps(value)
