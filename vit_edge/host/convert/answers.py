"""The output of somebody's ONNX graph that holds its answers, before a final Softmax or Sigmoid."""

import dataclasses

import onnx
from onnx import TensorProto

from vit_edge.errors import ModelError
from vit_edge.host.convert.onnx_io import messages
from vit_edge.runtime.model.outputs import OutputShape, chosen_output, with_activation
from vit_edge.spec import OutputKind

_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_ACTIVATIONS = frozenset({"Softmax", "Sigmoid"})
_LAST_AXES = (-1, 1)  # of (N, classes)


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """A graph whose one output holds its answers."""

    model: onnx.ModelProto
    output: str  # what the file called them
    kind: OutputKind  # before any final activation


def answers_of(
    model: onnx.ModelProto,
    name: str,
    output: str | None = None,
    said: OutputKind | None = None,
    labels: int | None = None,
) -> Answers:
    """A copy of a classifier with one output, without the Softmax or Sigmoid at its end.

    Args:
        model: any ONNX image classifier.
        name: how errors call it.
        output: the name of the output that holds the answers, where the user states it.
        said: what the numbers mean, where that is stated; a regression keeps its last operator.
        labels: how many names there are for them, where that is known.

    Raises:
        ModelError: no output that holds answers, or several that might.
    """
    values = {value.name: value for value in model.graph.output}
    try:
        chosen = chosen_output([_shape(value) for value in model.graph.output], output, labels)
    except ValueError as error:
        raise ModelError(f"{name} {error}") from None
    dims = _shape(values[chosen]).dims
    made, last = onnx.ModelProto(), _activation(model, chosen)
    made.CopyFrom(model)
    width = dims[1] if dims is not None and len(dims) == 2 else None
    kind = with_activation(said, None if last is None else last.op_type, width)
    if kind is OutputKind.SINGLE_LABEL_PROBABILITIES and width == 1:
        raise ModelError(f"{name} ends in a Softmax over one number, which is always 1: export its logits")
    value = onnx.ValueInfoProto()
    value.CopyFrom(values[chosen])
    if last is not None and kind is not kind.logits:
        value.name = last.input[0]
    del made.graph.output[:]
    made.graph.output.append(value)
    if len(values) > 1 or value.name != chosen:
        _drop_unused(made)
    return Answers(made, chosen, kind.logits)


def _shape(value: onnx.ValueInfoProto) -> OutputShape:
    tensor = value.type.tensor_type
    dims = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    return OutputShape(value.name, tensor.elem_type in _FLOATS, dims if tensor.HasField("shape") else None)


def _activation(model: onnx.ModelProto, output: str) -> onnx.NodeProto | None:
    """The Softmax (over the classes) or Sigmoid that makes an output, behind any Identity."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    for _ in range(len(made_by)):
        node = made_by.get(output)
        if node is None or node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type in _ACTIVATIONS:
            axis = next((each.i for each in node.attribute if each.name == "axis"), -1)
            return node if axis in _LAST_AXES else None
        if node.op_type != "Identity":
            return None
        output = node.input[0]
    return None


def _drop_unused(model: onnx.ModelProto) -> None:
    """Remove the nodes and weights that no longer lead to an output."""
    made_by = {name: index for index, node in enumerate(model.graph.node) for name in node.output}
    needed: set[str] = set()
    kept: set[int] = set()
    waiting = [value.name for value in model.graph.output]
    while waiting:
        name = waiting.pop()
        needed.add(name)
        index = made_by.get(name)
        if index is None or index in kept:
            continue
        kept.add(index)
        # A subgraph may read values of the graph around it.
        inside = [each for each in messages(model.graph.node[index]) if isinstance(each, onnx.NodeProto)]
        waiting += [read for node in inside for read in node.input if read and read not in needed]
    for index in reversed(range(len(model.graph.node))):
        if index not in kept:
            del model.graph.node[index]
    for index in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[index].name not in needed:
            del model.graph.initializer[index]
