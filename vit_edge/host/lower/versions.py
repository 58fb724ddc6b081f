"""One graph at another opset and IR version, for runtimes older or newer than it was written for.

Graphs are written at `OPSET`. Between the supported opsets most operators only learnt further types; what a
node of ours says means the same in both, and the operator schemas are asked whether it does. The exceptions
are rewritten: Gelu, which came with opset 20, is spelled out, and the axes of a reduction were an attribute
before opset 18. What can neither stay nor be rewritten is refused by name.
"""

import math
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
from onnx import defs
from onnx_ir.passes.common import RemoveUnusedNodesPass

from vit_edge.errors import ModelError
from vit_edge.host.initializers import stored
from vit_edge.host.rewrite.prepare import OPSET
from vit_edge.spec import OnnxVersions

_GELU_SINCE = 20
_AXES_SINCE = 18  # of most reductions the axes are an input from here on
_KEEP_EMPTY = "noop_with_empty_axes"


def to_versions(model: ir.Model, versions: OnnxVersions, name: str) -> None:
    """Bring a model to other versions, in place.

    Args:
        model: at any supported opset, of the standard operators.
        versions: what the file is to say.
        name: how errors call the model.

    Raises:
        ModelError: an operator that the opset does not have, or that says something else there.
    """
    have = model.graph.opset_imports.get("", OPSET)
    model.ir_version = versions.ir
    if have == versions.opset:
        return
    for node in list(model.graph.all_nodes()):
        if node.domain not in ("", "ai.onnx"):
            continue
        rewrite = _REWRITES.get(node.op_type)
        if rewrite is not None:
            rewrite(node, versions.opset)
    for node in model.graph.all_nodes():
        _check(node, have, versions.opset, name)
    model.graph.opset_imports[""] = versions.opset
    RemoveUnusedNodesPass()(model)  # and with them the axes that became attributes


def proto_at(model: onnx.ModelProto, versions: OnnxVersions, name: str) -> onnx.ModelProto:
    """The same for a model as ONNX holds it; the given one stays as it is."""
    converted = ir.from_proto(model)
    to_versions(converted, versions, name)
    return ir.to_proto(converted)


def _decompose_gelu(node: ir.Node, opset: int) -> None:
    """Half of x (1 + erf(x / sqrt 2)), or with tanh; onnxruntime fuses either again."""
    x = node.inputs[0]
    if opset >= _GELU_SINCE or x is None:
        return
    writer = _Writer(node)
    approximate = node.attributes.get("approximate")
    if approximate is not None and approximate.as_string() == "tanh":
        cube = writer.op("Pow", [x, writer.constant(3.0)], "cube")
        inner = writer.op("Add", [x, writer.op("Mul", [cube, writer.constant(0.044715)], "bent")], "inner")
        scaled = writer.op("Mul", [inner, writer.constant(math.sqrt(2 / math.pi))], "scaled")
        bent = writer.op("Tanh", [scaled], "tanh")
    else:
        bent = writer.op("Erf", [writer.op("Div", [x, writer.constant(math.sqrt(2))], "scaled")], "erf")
    raised = writer.op("Add", [bent, writer.constant(1.0)], "raised")
    result = writer.op("Mul", [writer.op("Mul", [x, raised], "product"), writer.constant(0.5)], "half")
    writer.replace(result)


def _axes_as_attribute(node: ir.Node, opset: int) -> None:
    """Axes as an attribute; where they are no constant they stay, and the check refuses them."""
    if opset >= _AXES_SINCE:
        return
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    stored = None if axes is None else ir.convenience.get_const_tensor(axes)
    values = [] if stored is None else [int(axis) for axis in stored.numpy().reshape(-1)]
    empty = node.attributes.get(_KEEP_EMPTY)
    if (axes is not None and stored is None) or (not values and empty is not None and empty.as_int()):
        return  # an empty list that reduces nothing cannot be said either
    node.attributes.pop(_KEEP_EMPTY, None)
    node.resize_inputs(1)
    if values:
        node.attributes["axes"] = ir.AttrInt64s("axes", values)


_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
_REWRITES: dict[str, Callable[[ir.Node, int], None]] = {
    "Gelu": _decompose_gelu,
    **{f"Reduce{kind}": _axes_as_attribute for kind in _REDUCTIONS},
}


class _Writer:
    """Writes the nodes that take the place of one; constants have the type of its output."""

    def __init__(self, node: ir.Node) -> None:
        self.node, self.output = node, node.outputs[0]
        self.name = node.name or str(self.output.name)
        self.kind = self.output.dtype or ir.DataType.FLOAT

    def op(self, op_type: str, inputs: list[ir.Value], part: str) -> ir.Value:
        made = ir.node(op_type, inputs, name=f"{self.name}.{part}")
        result = made.outputs[0]
        result.name, result.dtype, result.shape = f"{self.output.name}.{part}", self.kind, self.output.shape
        self._graph().insert_before(self.node, made)
        return result

    def constant(self, number: float) -> ir.Value:
        graph, array = self._graph(), np.asarray(number, self.kind.numpy())
        name = f"gelu_{array.dtype}_{number!r}"
        if name in graph.initializers:
            return graph.initializers[name]
        return stored(graph, array, name)

    def replace(self, result: ir.Value) -> None:
        graph = self._graph()
        name = self.output.name
        ir.convenience.replace_all_uses_with(self.output, result, replace_graph_outputs=True)
        graph.remove(self.node, safe=True)
        result.name = name

    def _graph(self) -> ir.Graph:
        graph = self.node.graph
        if not isinstance(graph, ir.Graph):
            raise ModelError(f"{self.name} stands in no graph of its own; export the model again")
        return graph


def _check(node: ir.Node, have: int, wanted: int, name: str) -> None:
    """Refuse a node that the other opset cannot say; whether types fit is for the ONNX checker to tell."""
    if node.domain not in ("", "ai.onnx"):
        return
    try:
        schema = defs.get_schema(node.op_type, wanted, "")
    except defs.SchemaError:
        raise ModelError(f"{name}: opset {wanted} has no {node.op_type}; ask for a newer opset") from None
    try:
        before = defs.get_schema(node.op_type, have, "")
    except defs.SchemaError:
        return  # it was made for the other opset just now
    if before.since_version == schema.since_version:
        return
    given = {key for key in node.attributes if key in before.attributes}
    lost = sorted(given - set(schema.attributes))
    moved = sorted(
        key
        for key in set(before.attributes) & set(schema.attributes) - set(node.attributes)
        if before.attributes[key].default_value != schema.attributes[key].default_value
    )
    if lost or moved or not schema.min_input <= len(node.inputs) <= schema.max_input:
        reason = ", ".join(lost + moved) or f"{len(node.inputs)} inputs"
        raise ModelError(
            f"{name}: {node.op_type} of opset {have} ({reason}) cannot be said in opset {wanted}; "
            "ask for a newer opset"
        )
