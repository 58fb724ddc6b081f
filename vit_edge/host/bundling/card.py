"""The README.md of a bundle: what the model is, what was measured, and how to run it."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vit_edge.host.rewrite.contract import Description
from vit_edge.manifest import Manifest
from vit_edge.source_parity import SourceParity
from vit_edge.spec import OutputKind, PreprocessSpec, ResizeMode
from vit_edge.verify.words import decibel, percent

_VERDICTS = {
    "PASS": "the {} stays within the tolerance",
    "FAIL": "the {} exceeds the tolerance",
    "UNDECIDED": "the images are too few to tell whether the {} stays within the tolerance",
}
_USE = """## Use
On the device (`pip install vit-edge`; numpy, Pillow and onnxruntime, nothing else):
```python
from vit_edge import Classifier

classify = Classifier("path/to/this/folder")
for prediction in classify("image.jpg"):
    print(prediction.label, prediction.score)
```
`onnx/model.onnx` and `onnx/model_quantized.onnx` take `pixel_values` float32 (N, 3, H, W) and give `logits`
float32 (N, classes) in any ONNX runtime; with `config.json` and `preprocessor_config.json` the folder also
opens in Hugging Face's transformers.js. `vit_edge.json` records every file's SHA-256, the preprocessing, the
quantization of each layer and all figures below.
"""
_EMBEDDER = """The folder gives embeddings, too, as a backbone for detection, segmentation or search:
```python
from vit_edge import Embedder

found = Embedder("path/to/this/folder")("image.jpg")
found.patches  # (rows, columns, D), one token per patch
found.pooled  # (D,), their mean
found.cls  # (D,), the class token; None where the classifier does not read one by itself
```
"""


def card(manifest: Manifest, description: Description | None) -> str:
    """Markdown with a Hugging Face model card's front matter.

    Args:
        manifest: complete but for this file.
        description: the canonical graph's sizes, where it is one.
    """
    parts = [
        "---\nlibrary_name: onnx\npipeline_tag: image-classification\ntags: [vit, int8, edge]\n---",
        f"# {manifest.source.name}, float32 and INT8\n",
        f"Made by vit-edge from `{manifest.source.name}`, whose weights have the SHA-256 "
        f"`{manifest.source.sha256}`. The licence of the weights and of their training data is that of "
        "the source.",
        "" if description is None else _sizes(description),
        _assumed(manifest.source.notes),
        _meaning(manifest.output),
        "## Proof",
        _proof(manifest),
        "## Accuracy",
        _accuracy(manifest.accuracy or {}),
        "## Speed and size",
        _latency(manifest.latency),
        "## Choice",
        _choice(manifest),
        "## Preprocessing",
        _preprocessing(manifest.preprocess),
        "## Quantization",
        _quantization(manifest),
        _embedder((manifest.quantization or {}).get("embedder")),
        _USE,
    ]
    return "\n".join(part for part in parts if part)


def _sizes(description: Description) -> str:
    patch, image = ("x".join(map(str, sides)) for sides in (description.patch, description.image))
    return (
        f"A Vision Transformer of {description.depth} layers, width {description.width}, "
        f"{description.heads} heads, patches of {patch} on {image} pixels, {description.classes} classes.\n"
    )


def _meaning(kind: OutputKind) -> str:
    told = {
        OutputKind.MULTI_LABEL: "Each label is there or not by itself: its score is its logit's sigmoid.",
        OutputKind.BINARY: "One logit says no or yes: the score is its sigmoid.",
        OutputKind.REGRESSION: "The numbers are values, not classes.",
    }
    return f"{told[kind]}\n" if kind in told else ""


def source_line(parity: SourceParity) -> str:
    """What the card says of the proof source → float."""
    return f"- source → float: **{parity.state.value}**, {parity.reason}"


def _proof(manifest: Manifest) -> str:
    verdict = (manifest.accuracy or {}).get("verdict", "not measured")
    return f"{source_line(manifest.source_parity)}\n- float → INT8: **{verdict}**, below\n"


def _assumed(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    return "\n".join(["**Decided without the source saying so**:\n", *(f"* {note}" for note in notes), ""])


def _accuracy(accuracy: Mapping[str, Any]) -> str:
    data, tolerance = accuracy["data"], accuracy["tolerance"]
    kind = "labelled" if data["labelled"] else "unlabelled"
    origin = ", held out of the calibration folder" if data["held_out_of_calibration"] else ""
    if data["scenes"] < data["images"]:
        origin += f"; {data['scenes']} of them independent, {data['copies_left_out']} repeat another one"
    about, limit = _claim(accuracy["evidence"], tolerance, labelled=data["labelled"])
    lines = [
        f"**{accuracy['verdict']}**: {_VERDICTS[accuracy['verdict']].format(about)} of {limit} at "
        f"{100 * tolerance['confidence']:g} % confidence, on {data['images']} {kind} images "
        f"(`{data['name']}`{origin}). The reference is `{accuracy['reference']}`.\n",
        "| model | verdict | top-1 float | top-1 INT8 | drop (95 % interval) | agreement | logit SQNR |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, report in accuracy["models"].items():
        interval = report["drop_ci95"]
        drop = "-" if interval is None else f"{report['drop']:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"
        ratio = report["logit_sqnr_db"]
        cells = [
            f"`{name}`",
            report["verdict"],
            percent(report["top1_float"]),
            percent(report["top1_quant"]),
            drop,
            percent(report["agreement"]),
            decibel(ratio),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *_measures(accuracy["evidence"]), *_expected(accuracy)]) + "\n"


def _claim(evidence: Mapping[str, Any], tolerance: Mapping[str, Any], *, labelled: bool) -> tuple[str, str]:
    """What is judged, and how much of it is tolerated."""
    share = f"{tolerance['max_drop'] if labelled else tolerance['max_changed']:g}"
    if "values" in evidence:
        about = "growth of the mean absolute error" if labelled else "mean absolute change"
        return about, f"{share} % of the range"
    if not labelled:
        return "share of changed predictions", f"{share} % of images"
    return ("drop in exact matches" if "labels" in evidence else "drop"), f"{share} points"


def _measures(evidence: Mapping[str, Any]) -> list[str]:
    """Of models of several labels or of values, what stands beside the verdict."""
    found = evidence.get("labels")
    if found is not None:
        return [
            f"\nAll labels right: {percent(found['exact_float'])} float, "
            f"{percent(found['exact_quant'])} INT8; accuracy of labels: "
            f"{percent(found['accuracy_float'])} and {percent(found['accuracy_quant'])}; "
            f"F1 (micro): {percent(found['f1_micro_float'])} and {percent(found['f1_micro_quant'])}."
        ]
    found = evidence.get("values")
    if found is None:
        return []
    text = f"\nMean absolute change {found['mean_change']:.4g}, at most {found['largest_change']:.4g}"
    if found["error_float"] is not None:
        text += f"; mean absolute error {found['error_float']:.4g} float, {found['error_quant']:.4g} INT8"
    return [f"{text}; ranges {', '.join(f'{span:.4g}' for span in found['spans'][:8])}."]


def _expected(accuracy: Mapping[str, Any]) -> list[str]:
    """What the float model's probabilities say, and what speaks against the float model itself."""
    lines = [f"\n**Note**: {note}." for note in accuracy["notes"]]
    expected = accuracy["evidence"]["expected"]
    if expected is not None and expected["ci95"] is not None:
        low, high = expected["ci95"]
        tested = expected["calibration"]
        how = (
            "which no labels have tested"
            if tested is None
            else f"tested on labels (p = {tested['p_value']:.2g})"
        )
        lines.append(
            f"\nExpected drop of `{accuracy['model']}` if the float model's own probabilities are right, "
            f"{how}: {expected['drop']:.2f} points ({low:.2f} to {high:.2f})."
        )
    return lines


def _latency(records: Sequence[Mapping[str, Any]]) -> str:
    threads = records[0]["threads"]
    version = records[0]["environment"]["onnxruntime"]
    lines = [
        f"One image at a time on {records[0]['machine']} (onnxruntime {version}, "
        f"threads: {'its own choice' if threads is None else threads}), models run in turn.\n",
        "| model | median | fastest | 95th percentile | against float | peak memory | file |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in records:
        memory = record["peak_rss_mb"]
        cells = [
            f"`{record['path']}`",
            f"{record['median_ms']:.2f} ms",
            f"{record['min_ms']:.2f} ms",
            f"{record['p95_ms']:.2f} ms",
            f"{record['ratio_to_float']:.2f}{'' if record['timed_on_its_device'] else ' *'}",
            "-" if memory is None else f"{memory:.0f} MB",
            f"{record['size_mb']:.2f} MB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if any(not record["timed_on_its_device"] for record in records):
        lines.append("\n\\* timed on a machine of another kind than the file is for.")
    return "\n".join(lines) + "\n"


def _choice(manifest: Manifest) -> str:
    """What runs by default, and all that was seen on the way."""
    recipe = manifest.quantization or {}
    looked = recipe["repair"]
    lines = [f"`{manifest.default_model}` runs by default: {looked['reason']}."]
    for name, each in looked["files"].items():
        if name != (manifest.accuracy or {})["model"]:
            fate = "left out" if each["kept"] is None else "kept"
            lines.append(f"`{name}` is judged by itself ({each['verdict']}, {fate}): {each['reason']}.")
    if looked["kept"] is None:
        lines.append("The closest quantization is not in this folder; the figures above are its.")
    if looked["integer_graph"] is not None:
        lines.append(f"As onnxruntime runs it: {looked['integer_graph']['summary']}.")
    if looked["looks"] > 1:
        lines.append(
            f"{looked['looks']} quantizations were judged (at most {looked['looks_allowed']}), the first at "
            f"{100 * looked['confidence_first']:g} % confidence, the others at "
            f"{100 * looked['confidence_repaired']:g} %, so that the chance of a wrong PASS is at most "
            f"{100 * (1 - looked['confidence_first']):.3g} % over all of them."
        )
    lines += [
        "\n| seen | forms | verdict | top-1 | agreement | lost at most | against float | size | why |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_seen(row) for row in recipe["pareto"]),
    ]
    return "\n".join(lines) + "\n"


def _seen(row: Mapping[str, Any]) -> str:
    forms = ", ".join(f"{count} {form}" for form, count in sorted((row["forms"] or {}).items()))
    cells = [
        f"**{row['name']}**" if row["chosen"] else row["name"],
        forms or "-",
        row["verdict"] or "-",
        percent(row["top1"]),
        percent(row["agreement"]),
        f"{row['drop_at_most']:.2f}",
        f"{row['latency_ratio']:.2f}",
        f"{row['size_mb']:.2f} MB",
        row["reason"],
    ]
    return f"| {' | '.join(cells)} |"


def _preprocessing(spec: PreprocessSpec) -> str:
    resize = {
        ResizeMode.NONE: "no resize",
        ResizeMode.SHORT_SIDE: f"short side to {spec.resize[0]} pixels ({spec.interpolation.value})",
        ResizeMode.EXACT: f"resize to {spec.resize[0]}x{spec.resize[1]} pixels ({spec.interpolation.value})",
        ResizeMode.COVER: f"resize to cover {spec.resize[0]}x{spec.resize[1]} ({spec.interpolation.value})",
    }[spec.resize_mode]
    return (
        f"RGB; {resize}; centre crop {spec.height}x{spec.width} as {spec.crop.value} rounds it; "
        f"(pixel / 255 - mean) / std with mean {list(spec.mean)} and std {list(spec.std)}.\n"
    )


def _quantization(manifest: Manifest) -> str:
    recipe = dict(manifest.quantization or {})
    recipe.pop("embedder", None)  # it has a section of its own
    models, _, _ = (recipe.pop(key, {}) for key in ("models", "pareto", "repair"))
    lines = [f"- {key.replace('_', ' ')}: {_value(value)}" for key, value in recipe.items()]
    for name, made in models.items():
        note = f"; {made['activations']} activations"
        if made["narrowed"]:
            note += f"; {len(made['narrowed'])} operands with a reduced range where 8 bits could saturate"
        lines.append(f"- `{name}`: for target {made['target']}{note}")
    forms = Counter(layer["form"] for layer in manifest.layers)
    counts = ", ".join(f"{count} {form}" for form, count in sorted(forms.items()))
    lines.append(f"- layers of `{(manifest.accuracy or {})['model']}`: {counts}")
    return "\n".join(lines) + "\n"


def _embedder(record: Mapping[str, Any] | None) -> str:
    """What the embedders give, and how close the INT8 one is to the float one."""
    if record is None:
        return ""
    lines = ["## Embeddings", _EMBEDDER]
    if record["outputs"]:
        lines += [
            f"`onnx/embedder_quantized.onnx` against `onnx/embedder.onnx` on {record['images']} images; the "
            "cosine is over all vectors, of which each image has one per patch among the patch features.\n",
            "| output | mean cosine | least cosine | SQNR |",
            "|---|---|---|---|",
        ]
    for name, found in record["outputs"].items():
        ratio = decibel(found["sqnr_db"])
        lines.append(f"| `{name}` | {found['cosine']:.4f} | {found['least_cosine']:.4f} | {ratio} |")
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    if isinstance(value, list):
        return str(len(value))  # the manifest holds them
    return value if isinstance(value, str) else json.dumps(value)
