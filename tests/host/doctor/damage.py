"""The embedded model as an ONNX file, and ways to break it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from vit_edge.host.convert.normal import normal_form
from vit_edge.host.convert.onnx_io import parse_onnx
from vit_edge.host.rewrite.canonical import Canonical, canonicalise
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.runtime.model.metadata import preprocess_of
from vit_edge.spec import PreprocessSpec

Change = Callable[[onnx.ModelProto], None]


def array(model: onnx.ModelProto, name: str) -> np.ndarray:
    """A copy of the initializer of this name."""
    return next(numpy_helper.to_array(each) for each in model.graph.initializer if each.name == name).copy()


def put(model: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    """Other values, of the same type."""
    tensor = next(each for each in model.graph.initializer if each.name == name)
    kind = numpy_helper.to_array(tensor).dtype
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values.astype(kind)), name))


def weight_of(model: onnx.ModelProto, bias: str) -> str:
    """The name of the weight (in, out) of the linear layer with this bias."""
    add = next(node for node in model.graph.node if node.op_type == "Add" and bias in node.input)
    made = next(name for name in add.input if name != bias)
    return str(next(node for node in model.graph.node if made in node.output).input[1])


def changed(model: onnx.ModelProto, change: Change | None) -> onnx.ModelProto:
    """A copy, changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if change is not None:
        change(copy)
    return copy


def written(model: onnx.ModelProto, path: Path, change: Change | None = None) -> ModelFile:
    """A copy, changed, as a file."""
    onnx.save(changed(model, change), path)
    return read_model(path)


def canonical(model: onnx.ModelProto, change: Change | None = None) -> Canonical:
    """A copy, changed, as the host looks into it."""
    return canonicalise(normal_form(changed(model, change), "digits", (32, 32)), "digits")


def spec_of(model: onnx.ModelProto) -> PreprocessSpec:
    """What the file says of its images."""
    spec = preprocess_of({each.key: each.value for each in model.metadata_props})
    assert spec is not None
    return spec


def parsed(file: ModelFile) -> onnx.ModelProto:
    """The model of a file."""
    return parse_onnx(file.data, file.path.name)


def before_input(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], made: str) -> None:
    """Put nodes between the input `pixel_values` and all that reads it; they read it and make `made`."""
    for node in model.graph.node:
        node.input[:] = [made if name == "pixel_values" else name for name in node.input]
    old = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *old])


def behind_output(model: onnx.ModelProto, operators: Sequence[str]) -> None:
    """Put operators of one input behind the logits."""
    name = "logits"
    for node in model.graph.node:
        node.output[:] = ["logits.0" if each == name else each for each in node.output]
    for place, operator in enumerate(operators):
        last = place == len(operators) - 1
        made = name if last else f"logits.{place + 1}"
        model.graph.node.append(helper.make_node(operator, [f"logits.{place}"], [made], axis=-1))


def transposed_input(model: onnx.ModelProto) -> None:
    """As if rows and columns were exchanged in training."""
    node = helper.make_node("Transpose", ["pixel_values"], ["turned"], perm=[0, 1, 3, 2])
    before_input(model, [node], "turned")


def interleaved_input(model: onnx.ModelProto) -> None:
    """As if images (N, H, W, 3) were handed over under the name of (N, 3, H, W)."""
    shape = numpy_helper.from_array(np.asarray([-1, 32, 32, 3], np.int64), "interleaved.shape")
    model.graph.initializer.append(shape)
    nodes = [
        helper.make_node("Reshape", ["pixel_values", shape.name], ["interleaved"]),
        helper.make_node("Transpose", ["interleaved"], ["turned"], perm=[0, 3, 1, 2]),
    ]
    before_input(model, nodes, "turned")


def one_colour(place: int) -> Change:
    """See grey in one of the three channels only."""

    def change(model: onnx.ModelProto) -> None:
        kernel = array(model, "patch_embed.proj.weight")
        alone = np.zeros_like(kernel)
        alone[:, place] = kernel.sum(axis=1)
        put(model, "patch_embed.proj.weight", alone)

    return change


def mean_pooling(model: onnx.ModelProto) -> None:
    """Read the mean of the patches where the class token was read."""
    gather = next(node for node in model.graph.node if list(node.output) == ["select"])
    tokens = gather.input[0]
    bounds = {"from": 1, "to": 17, "over": 1}
    for name, value in bounds.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray([value], np.int64), name))
    place = list(model.graph.node).index(gather)
    model.graph.node.remove(gather)
    model.graph.node.insert(place, helper.make_node("Slice", [tokens, "from", "to", "over"], ["patches"]))
    mean = helper.make_node("ReduceMean", ["patches", "over"], ["select"], keepdims=0)
    model.graph.node.insert(place + 1, mean)


def table_of(rows: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Other positions of the patches, made of those that there are (16, 96)."""

    def change(model: onnx.ModelProto) -> None:
        table = array(model, "pos_embed")
        table[0, 1:] = rows(table[0, 1:])
        put(model, "pos_embed", table)

    return change


def head_of(rows: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Other rows of the head, weight and bias side by side (10, 97)."""

    def change(model: onnx.ModelProto) -> None:
        weight, bias = array(model, "head.weight"), array(model, "head.bias")
        made = rows(np.concatenate([weight, bias[:, None]], axis=1))
        put(model, "head.weight", made[:, :-1])
        put(model, "head.bias", made[:, -1])

    return change


def linear_of(bias: str, change: Callable[[np.ndarray, np.ndarray], None]) -> Change:
    """Change weight (in, out) and bias (out) of a linear layer in place."""

    def changed(model: onnx.ModelProto) -> None:
        name = weight_of(model, bias)
        weight, offset = array(model, name), array(model, bias)
        change(weight, offset)
        put(model, name, weight)
        put(model, bias, offset)

    return changed
