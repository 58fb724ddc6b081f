"""Half precision: everything that is not integer in float16, but for what needs float32.

Inputs and outputs of the model stay as they are. LayerNormalization takes and gives float16 and computes its
statistics in float32, as ONNX defines it (stash_type 1). Softmax and the parts that it may be written in, and
the scales that are measured per row at run time, stay float32: they hold sums and reciprocals beyond the
range of float16.
"""

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from vit_edge.host.initializers import stored
from vit_edge.host.rewrite.composites import is_op

FULL = frozenset({"Softmax", "Sub", "Exp", "ReduceSum", "Abs", "ReduceMax", "Max", "Reciprocal"})
FOLLOWING = frozenset({"Mul", "Div", "QuantizeLinear"})  # float32 behind what is, float16 elsewhere

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


def to_half(model: ir.Model) -> None:
    """Bring a lowered float32 model to half precision, in place.

    Args:
        model: with float32 inputs and outputs, or integer ones; float tensors within are float32.
    """
    ShapeInferencePass()(model)
    _Halver(model.graph).run()
    RemoveUnusedNodesPass()(model)  # and with them the float32 constants that nothing reads any more


class _Halver:
    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.converted: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def run(self) -> None:
        for node in list(self.graph):
            if _is_bias(node):
                self.replace_bias(node)
            else:
                self.convert(node)
        for index, output in enumerate(self.graph.outputs):
            if output.dtype == ir.DataType.FLOAT16:
                self.graph.outputs[index] = self.restored(output)

    def convert(self, node: ir.Node) -> None:
        """Give a node inputs of the type that it computes in."""
        kind = _type_of(node)
        for index, value in enumerate(node.inputs):
            if index and is_op(node, "Resize"):
                continue  # its sizes and scales have one type, whatever it enlarges
            if value is not None and value.dtype in _FLOATS and value.dtype != kind:
                node.replace_input_with(index, self.as_type(value, kind, node))
        target = node.attributes.get("to")
        if node.op_type == "Cast" and target is not None and target.as_int() == ir.DataType.FLOAT:
            node.attributes["to"] = ir.AttrInt64("to", int(kind))
        for output in node.outputs:
            if output.dtype == ir.DataType.FLOAT:
                output.dtype = kind

    def as_type(self, value: ir.Value, kind: ir.DataType, reader: ir.Node) -> ir.Value:
        """The same value in another float type: a constant, or a Cast in front of its first reader."""
        if (value, kind) not in self.converted:
            name = f"{value.name}.{kind.name.lower()}"
            constant = value.const_value
            if constant is not None:
                made = self.constant(constant.numpy().astype(kind.numpy()), name)
            else:
                cast = ir.node("Cast", [value], {"to": int(kind)}, name=name)
                made = cast.outputs[0]
                made.name, made.dtype, made.shape = name, kind, value.shape
                self.graph.insert_before(reader, cast)
            self.converted[value, kind] = made
        return self.converted[value, kind]

    def replace_bias(self, node: ir.Node) -> None:
        """The float16 constant of an int32 bias: its scale alone would be too small for float16."""
        arrays = [value.const_value for value in node.inputs if value is not None]
        bias, scale, zero = [array.numpy().astype(np.float64) for array in arrays if array is not None]
        (output,) = node.outputs
        made = self.constant(((bias - zero) * scale).astype(np.float16), f"{output.name}.float16")
        output.replace_all_uses_with(made)
        self.graph.remove(node, safe=True)

    def constant(self, array: np.ndarray, name: str) -> ir.Value:
        return stored(self.graph, array, name)

    def restored(self, output: ir.Value) -> ir.Value:
        """A float32 output of the same name and shape."""
        name = output.name
        cast = ir.node("Cast", [output], {"to": int(ir.DataType.FLOAT)}, name=f"{name}.float32")
        made = cast.outputs[0]
        output.name = f"{name}.float16"
        made.name, made.dtype, made.shape = name, ir.DataType.FLOAT, output.shape
        self.graph.append(cast)
        return made


def _is_bias(node: ir.Node) -> bool:
    given = node.inputs[0] if node.inputs else None
    return node.op_type == "DequantizeLinear" and given is not None and given.dtype == ir.DataType.INT32


def _type_of(node: ir.Node) -> ir.DataType:
    """The float type that a node computes in; its inputs have theirs already."""
    behind = [value for value in node.inputs if value is not None and value.producer() is not None]
    follows = node.op_type in FOLLOWING and any(value.dtype == ir.DataType.FLOAT for value in behind)
    return ir.DataType.FLOAT if node.op_type in FULL or follows else ir.DataType.FLOAT16
