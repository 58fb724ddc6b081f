"""The inner activations of an ONNX graph: which there are, a graph that shows them, one operator alone."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import onnx
from onnx import helper

_ROUND_TRIP = ("QuantizeLinear", "DequantizeLinear")
_MOVES = ("Reshape", "Transpose", "Split", "Gather", "Slice")  # no value is changed, and so none is compared
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A float activation, or one that is integers between two operators and stands for floats."""

    name: str
    """What the operator that makes it calls it."""
    operator: str
    """Type of that operator."""
    shown: str
    """The output of the graph that shows it."""
    inputs: tuple[str, ...]
    """The tensors of this list that it was made from, through quantizers and operators on integers."""


def tensors_of(model: onnx.ModelProto) -> list[Tensor]:
    """Every activation that can be shown, in the order of the graph."""
    types = {name: value.type.tensor_type.elem_type for name, value in _shapes(model).items()}
    paths = _Paths(model)
    found: dict[str, Tensor] = {}
    for node in model.graph.node:
        if node.op_type in _ROUND_TRIP:
            continue
        behind = tuple(dict.fromkeys(name for part in node.input for name in paths.origins(part, found)))
        for name in node.output:
            if types.get(name) in _FLOATS and node.op_type not in _MOVES:
                stored = paths.stored(name)
                shown = name if stored is None else f"{name}.walk"
                found[name] = Tensor(name, node.op_type, shown, behind)
            elif name:
                paths.passed[name] = behind
    return list(found.values())


def shown(model: onnx.ModelProto, tensors: Sequence[Tensor]) -> onnx.ModelProto:
    """A copy of the model with every tensor among its outputs.

    What is quantized is dequantized once more for it: operators keep the form that compilers know.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    paths, present, shapes = _Paths(model), {output.name for output in model.graph.output}, _shapes(model)
    for tensor in tensors:
        stored = paths.stored(tensor.name)
        if stored is not None:
            made.graph.node.append(helper.make_node("DequantizeLinear", stored, [tensor.shown]))
        if tensor.shown not in present:
            made.graph.output.append(_output(tensor, shapes))
    return made


def alone(model: onnx.ModelProto, tensor: Tensor) -> tuple[onnx.ModelProto, tuple[str, ...]] | None:
    """One operator with its constants and quantizers, which takes its inputs as floats.

    Returns:
        The model, whose only output is `tensor.shown`, and the names of the tensors that it takes; None where
        the operator takes the image itself, or integers that others made.
    """
    paths = _Paths(model)
    (node,) = (node for node in model.graph.node if tensor.name in node.output)
    nodes: list[onnx.NodeProto] = []
    given: list[str] = []
    for part in node.input:
        if not paths.gather(part, nodes, given):
            return None
    nodes.append(node)
    stored = paths.stored(tensor.name)
    if stored is not None:
        nodes.extend([paths.makers[stored[0]], helper.make_node("DequantizeLinear", stored, [tensor.shown])])
    used, shapes = {part for each in nodes for part in each.input}, _shapes(model)
    if any(name not in shapes for name in given):
        return None
    graph = helper.make_graph(
        nodes,
        "alone",
        [shapes[name] for name in given],
        [_output(tensor, shapes)],
        [constant for constant in model.graph.initializer if constant.name in used],
    )
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return made, tuple(given)


def _shapes(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """What is known of every value that a node makes."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {value.name: value for value in (*graph.value_info, *graph.output)}


def _output(tensor: Tensor, shapes: Mapping[str, onnx.ValueInfoProto]) -> onnx.ValueInfoProto:
    """The output that shows a tensor."""
    value = onnx.ValueInfoProto()
    value.CopyFrom(shapes[tensor.name])
    value.name = tensor.shown
    return value


class _Paths:
    """Who makes and who reads what."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.makers = {name: node for node in model.graph.node for name in node.output if name}
        self.constants = {constant.name for constant in model.graph.initializer}
        self.outputs = {output.name for output in model.graph.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        self.passed: dict[str, tuple[str, ...]] = {}  # of tensors that are integers: what they were made from
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def stored(self, name: str) -> list[str] | None:
        """Inputs of the DequantizeLinear of a tensor that is only read to be quantized; None of another."""
        readers = self.readers.get(name, [])
        if len(readers) != 1 or readers[0].op_type != "QuantizeLinear" or name in self.outputs:
            return None
        return [readers[0].output[0], *readers[0].input[1:]]

    def origins(self, name: str, known: Iterable[str]) -> tuple[str, ...]:
        """The known tensors that a value comes from."""
        while name not in known:
            if name in self.passed:
                return self.passed[name]
            maker = self.makers.get(name)
            if maker is None or maker.op_type not in _ROUND_TRIP:
                return ()
            name = maker.input[0]
        return (name,)

    def gather(self, name: str, nodes: list[onnx.NodeProto], given: list[str]) -> bool:
        """Add the quantizers between a value and the floats that it comes from; False: there are none."""
        if not name or name in self.constants or name in given:
            return True
        maker = self.makers.get(name)
        if maker is None:
            return False
        if maker.op_type not in (*_ROUND_TRIP, *_MOVES):
            given.append(name)
            return True
        if maker not in nodes:
            if not all(self.gather(part, nodes, given) for part in maker.input):
                return False
            nodes.append(maker)
        return True
