"""An Add of a constant vector behind a Linear becomes its bias."""

from typing import Any

import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.rule import Declined, NodeRule
from vit_edge.host.rewrite.values import (
    constant_of,
    linear,
    linear_behind,
    linear_parts,
    reshape,
    static_shape,
)


class MergeBias(NodeRule[tuple[ir.Node, Array]]):
    """Linear(x, W, b) + c -> Linear(x, W, b + c), also through the Reshape to the leading dimensions."""

    ROOTS = ("Add",)
    FIRES = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,2] x) => (float[1,3,2] y)
        <float[2,2] w = {1.0, 2.0, 3.0, 4.0}, float[2] c = {0.5, -0.5}, int64[3] shape = {1, 3, 2},
         float[3,2] a, float[1,3,2] r> {
            a = vit_edge.Linear(x, w)
            r = Reshape(a, shape)
            y = Add(r, c)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,2] x) => (float[3,2] y)
        <float[2,2] w = {1.0, 2.0, 3.0, 4.0}, float[3,1] c = {0.5, -0.5, 1.0},
         float[3,2] a> {
            a = vit_edge.Linear(x, w)
            y = Add(a, c)
        }"""

    def find(self, node: ir.Node) -> tuple[ir.Node, Array] | Declined:
        """(a Linear that nothing else reads, the vector beside it, one value per column)."""
        for made, other in ((node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])):
            vector, source = constant_of(other), linear_behind(made)
            shape = static_shape(made)
            if vector is None or source is None or shape is None or shape != static_shape(node.outputs[0]):
                continue
            if vector.shape[-1:] == shape[-1:] and vector.size == shape[-1]:
                return source, vector.reshape(-1)
        return Declined("no operand is a Linear with a vector beside it")

    def replace(self, op: Any, node: ir.Node, found: tuple[ir.Node, Array]) -> ir.Value:
        """Add the vectors now."""
        source, vector = found
        x, weight, bias = linear_parts(source)
        made = linear(op, x, weight, vector if bias is None else bias + vector)
        return reshape(op, made, static_shape(node.outputs[0]) or ())
