"""Whether a few constant keys and values per attention take the massive activations out of a trained ViT.

Usage: python -m tools.registers --source SOURCE --calib DIR [--count N] [-o results.json]

A ViT parks what it needs nowhere else in a few tokens of huge values, which attentions of later blocks look
at instead of the image (Darcet et al. 2024, Vision Transformers Need Registers). Registers that are put in
front of the middle blocks as constant keys and values are to take their place without training (RegCache,
arXiv 2510.04547), so that static ranges need not reach so far. Here they are the keys and values of the most
massive tokens of the calibration images, in the float model: measured are the reach of the input of the layer
that is widest for its median token, how many tokens lie beyond ten times that median, and what becomes of the
logits, without and with that input clipped there, as a static range without room for them would do.

On ViT-Tiny registers change the logits and leave every massive token where it is: they arise in one MLP,
whatever attentions look at. Where they are clipped, two registers give back 1.7 dB of what that loses
(models/results/registers_vit_tiny.json). Computing the one channel apart, as vit-edge does, loses nothing.

Exit status: 0 measured, 2 bad input.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from vit_edge.cli.console import check_json, write_json
from vit_edge.errors import ModelError, VitEdgeError
from vit_edge.host.convert.export import export
from vit_edge.host.convert.optimize import normalisation_of
from vit_edge.host.hybrid.reaches import Feeds
from vit_edge.host.hybrid.rounding import logits_of, noise
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.ort import cpu_session
from vit_edge.host.quantize.probe import decibels
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.runtime.device.machine import describe_machine, version_of
from vit_edge.runtime.evaluate.dataset import evenly, list_images
from vit_edge.runtime.image.preprocess import load_pixels, normalize
from vit_edge.spec import GraphStyle, ModelForm
from vit_edge.targets import load_target
from vit_edge.verify.metrics import agreement

TOOLS = ("vit-edge", "onnxruntime", "torch", "numpy")
COUNTS = (0, 1, 2, 4, 8)
MASSIVE = 10.0  # times the largest value of the median token

Floats = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Core:
    """One attention: the tensors of its keys and its values, (1, heads, tokens, width)."""

    keys: str
    values: str


@dataclasses.dataclass(frozen=True, eq=False)
class Register:
    """What one token was to every attention: (1, heads, 1, width) of its keys and values each."""

    keys: tuple[Floats, ...]
    values: tuple[Floats, ...]


def cores_of(graph: onnx.GraphProto) -> list[Core]:
    """The attentions of a lowered float file, in its order."""
    made_by = {node.output[0]: node for node in graph.node}
    found = []
    for mix in graph.node:
        softmax = made_by.get(mix.input[0]) if mix.op_type == "MatMul" else None
        if softmax is None or softmax.op_type != "Softmax":
            continue
        scores = made_by[softmax.input[0]]
        turned = made_by.get(scores.input[1]) if scores.op_type == "MatMul" else None
        if turned is None or turned.op_type != "Transpose":
            raise ModelError(f"{mix.name} adds something to its scores: registers of it are not known")
        found.append(Core(turned.input[0], mix.input[1]))
    return found


def with_registers(
    model: onnx.ModelProto, registers: Sequence[Register], first: int, clip: tuple[str, float] | None
) -> onnx.ModelProto:
    """A copy whose attentions from the `first` on see registers too, and that clips one tensor from above."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]  # shapes are others now
    for index, core in enumerate(cores_of(copy.graph)):
        if registers and index >= first:
            for tensor, parts in (
                (core.keys, [each.keys[index] for each in registers]),
                (core.values, [each.values[index] for each in registers]),
            ):
                rows = numpy_helper.from_array(np.concatenate(parts, axis=2), f"{tensor}.registers")
                copy.graph.initializer.append(rows)
                _behind(copy.graph, tensor, "Concat", [rows.name], 2)
    if clip is not None:
        tensor, most = clip
        bound = numpy_helper.from_array(np.array(most, np.float32), f"{tensor}.most")
        copy.graph.initializer.append(bound)
        _behind(copy.graph, tensor, "Clip", ["", bound.name])
    return copy


def _behind(
    graph: onnx.GraphProto, tensor: str, operator: str, others: list[str], axis: int | None = None
) -> None:
    """Put an operator behind a tensor: whatever read that reads what it makes."""
    place = next(index for index, node in enumerate(graph.node) if tensor in node.output)
    made = f"{tensor}.{operator.lower()}"
    for node in graph.node:
        node.input[:] = [made if name == tensor else name for name in node.input]
    added = helper.make_node(operator, [tensor, *others], [made], name=made)
    if axis is not None:
        added.attribute.append(helper.make_attribute("axis", axis))
    graph.node.insert(place + 1, added)


def seen(model: onnx.ModelProto, feeds: Feeds, names: Sequence[str]) -> list[list[Floats]]:
    """Inner tensors, of each image."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    present = {output.name for output in shown.graph.output}
    more = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names]
    shown.graph.output.extend(each for each in more if each.name not in present)
    session = cpu_session(shown.SerializeToString(), fused=False)
    return [session.run(list(names), dict(feed)) for feed in feeds]


def second_layers(graph: onnx.GraphProto) -> list[str]:
    """What goes into the second layer of each MLP."""
    return [node.input[0] for node in graph.node if node.op_type == "Gemm" and "fc2.weight" in node.input[1]]


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Registers by count and by the attentions that have them, without and with clipping."""
    source = resolve(str(given.source), SourceOptions(crop_pct=given.crop_pct))
    form: ModelForm = dataclasses.replace(load_target("cpu").form, batch=1, style=GraphStyle.COMPILER)
    settings = LowerSettings(form, normalisation_of(source.preprocess))
    model = lower(canonicalise(export(source)[0], source.name), settings)
    paths = evenly(list_images(given.calib).paths, given.count)
    pixels = [load_pixels(path, source.preprocess)[None] for path in paths]
    feeds = [{"pixel_values": normalize(image, source.preprocess)} for image in pixels]
    widest, peaks = widest_layer(model, feeds)
    registers = registers_of(model, feeds, peaks)
    exact, median = logits_of(model, feeds), float(np.median(peaks))
    behind = 1 + second_layers(model.graph).index(widest)
    shared = {
        "model": source.name,
        "layer": widest,
        "images": len(feeds),
        "median_token": round(median, 2),
        "machine": describe_machine().to_json(),
        "versions": {tool: version_of(tool) or "not installed as a package" for tool in TOOLS},
    }
    rows: list[dict[str, Any]] = []
    for clip, first, count in (
        *((None, first, count) for first in (0, behind) for count in COUNTS if count or not first),
        *(((widest, MASSIVE * median), behind, count) for count in COUNTS),
    ):
        made = with_registers(model, registers[:count], first, clip)
        reached = peaks_of(made, feeds, widest)
        logits = logits_of(made, feeds)
        lost = noise(exact, logits)
        rows.append(
            {
                "registers": count,
                "from_block": first,
                "clipped": clip is not None,
                "reach": round(float(reached.max()), 1),
                "massive_tokens": int((reached > MASSIVE * median).sum()),
                "agreement_with_float": round(agreement(exact, logits), 2),
                "sqnr_db": round(decibels(lost), 2) if lost else None,
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return {**shared, "rows": rows}


def peaks_of(model: onnx.ModelProto, feeds: Feeds, tensor: str) -> Floats:
    """(images, tokens): the largest magnitude of each token."""
    return np.stack([np.abs(values).max(axis=-1) for (values,) in seen(model, feeds, [tensor])])


def widest_layer(model: onnx.ModelProto, feeds: Feeds) -> tuple[str, Floats]:
    """The second layer of an MLP whose input reaches farthest for its median token, and its tokens' peaks.

    Raises:
        ModelError: the model has no MLPs of two layers, or no token that is massive.
    """
    layers = second_layers(model.graph)
    if not layers:
        raise ModelError("the model has no MLPs of two layers: there is nothing to measure")
    found = {name: peaks_of(model, feeds, name) for name in layers}
    widest = max(layers, key=lambda name: found[name].max() / np.median(found[name]))
    if found[widest].max() <= MASSIVE * np.median(found[widest]):
        raise ModelError(f"no token reaches {MASSIVE:g} times the median one: registers have nothing to take")
    return widest, found[widest]


def registers_of(model: onnx.ModelProto, feeds: Feeds, peaks: Floats) -> list[Register]:
    """Of the most massive token of each image, the most massive first."""
    cores = cores_of(model.graph)
    names = [name for core in cores for name in (core.keys, core.values)]
    found = []
    for image in np.argsort(-peaks.max(axis=1))[: max(COUNTS)]:
        (tensors,) = seen(model, [feeds[image]], names)
        token = int(peaks[image].argmax())
        rows = [tensor[:, :, token : token + 1] for tensor in tensors]
        found.append(Register(tuple(rows[0::2]), tuple(rows[1::2])))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        check_json(given.output)
        result = measure(given)
        write_json(given.output, result)
    except VitEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    heads = "registers", "from block", "clipped", "massive tokens", "reach", "agreement", "SQNR"
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in result["rows"]:
        told = "the same" if row["sqnr_db"] is None else f"{row['sqnr_db']:.1f} dB"
        print(
            f"| {row['registers']} | {row['from_block']} | {'yes' if row['clipped'] else 'no'} "
            f"| {row['massive_tokens']} | {row['reach']:g} | {row['agreement_with_float']:.1f} % | {told} |"
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure what constant registers do to massive activations.")
    parser.add_argument("--source", required=True, help="as for vit-edge build")
    parser.add_argument("--crop-pct", type=float, help="where the source does not say so")
    parser.add_argument("--calib", type=Path, required=True, metavar="DIR", help="calibration images")
    parser.add_argument("--count", type=int, default=32, metavar="N", help="images to use (default: 32)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the figures as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
