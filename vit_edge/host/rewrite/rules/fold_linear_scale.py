"""A Mul (or Div) by a constant behind a Linear is folded into its weight and bias: LayerScale, rescales.

Source: Touvron et al. 2021 (LayerScale). Exact but for the rounding of one multiplication per weight.
"""

from typing import Any

import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.rule import Declined, NodeRule
from vit_edge.host.rewrite.values import (
    constant_of,
    linear,
    linear_behind,
    linear_parts,
    reshape,
    static_shape,
)


class FoldLinearScale(NodeRule[tuple[ir.Node, Array]]):
    """Linear(x, W, b) * c -> Linear(x, W * c, b * c)."""

    ROOTS = ("Mul", "Div")
    FIRES = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,2] x) => (float[3,2] y)
        <float[2,2] w = {1.0, 2.0, 3.0, 4.0}, float[2] b = {1.0, 2.0}, float[2] c = {0.5, -0.5},
         float[3,2] a> {
            a = vit_edge.Linear(x, w, b)
            y = Mul(c, a)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,2] x) => (float[3,2] y, float[3,2] a)
        <float[2,2] w = {1.0, 2.0, 3.0, 4.0}, float[2] c = {0.5, -0.5}> {
            a = vit_edge.Linear(x, w)
            y = Mul(a, c)
        }"""

    def find(self, node: ir.Node) -> tuple[ir.Node, Array] | Declined:
        """(a Linear that nothing else reads, the factor of each column or of all)."""
        orders = [(node.inputs[0], node.inputs[1])]
        if is_op(node, "Mul"):
            orders.append((node.inputs[1], node.inputs[0]))
        for made, other in orders:
            factor, source = constant_of(other), linear_behind(made)
            shape = static_shape(made)
            if factor is None or source is None or shape is None or shape != static_shape(node.outputs[0]):
                continue
            if factor.size == 1 or (factor.size == shape[-1] and factor.shape[-1] == shape[-1]):
                flat = factor.reshape(-1)
                return source, 1.0 / flat if is_op(node, "Div") else flat
        return Declined("no operand is a Linear with a constant beside it")

    def replace(self, op: Any, node: ir.Node, found: tuple[ir.Node, Array]) -> ir.Value:
        """Scale the columns now."""
        source, factor = found
        x, weight, bias = linear_parts(source)
        made = linear(op, x, weight * factor, None if bias is None else bias * factor)
        return reshape(op, made, static_shape(node.outputs[0]) or ())
