"""The residual that a Linear's result is added to goes into the Linear."""

from typing import Any, NamedTuple

import onnx_ir as ir

from vit_edge.host.kernels.operators import LINEAR, again, sole
from vit_edge.host.rewrite.rule import Declined, NodeRule
from vit_edge.host.rewrite.values import constant_of, static_shape


class Residual(NamedTuple):
    """A Linear, and what is added to it."""

    linear: ir.Node
    value: ir.Value


class MergeResidual(NodeRule[Residual]):
    """Add(r, Linear(x)) -> Linear(x, r), both computed and of the same shape."""

    ROOTS = ("Add",)
    FIRES = """<ir_version: 9, opset_import: ["": 20, "vit_edge.kernels": 1]>
        g (uint8[5,4] x, float[5,2] r) => (float[5,2] y)
        <int8[4,2] w = {1, 2, -3, 4, 5, -6, 7, 8},
         float[2] ws = {0.25, 0.5}, int32[2] b = {3, -4}, float[5,2] l> {
            l = vit_edge.kernels.Linear<input_scale=0.05, input_zero_point=7>(x, , , w, ws, b)
            y = Add(r, l)
        }"""
    HOLDS = """<ir_version: 9, opset_import: ["": 20, "vit_edge.kernels": 1]>
        g (uint8[5,4] x, float[1,2] r) => (float[5,2] y)
        <int8[4,2] w = {1, 2, -3, 4, 5, -6, 7, 8},
         float[2] ws = {0.25, 0.5}, int32[2] b = {3, -4}, float[5,2] l> {
            l = vit_edge.kernels.Linear<input_scale=0.05, input_zero_point=7>(x, , , w, ws, b)
            y = Add(r, l)
        }"""

    def find(self, node: ir.Node) -> Residual | Declined:
        """The Linear, on either side, and the other operand."""
        for here, there in ((1, 0), (0, 1)):
            linear, other = sole(node.inputs[here], LINEAR), node.inputs[there]
            if linear is None or other is None or linear.inputs[2] is not None:
                continue
            shape = static_shape(linear.outputs[0])
            if constant_of(other) is None and shape is not None and static_shape(other) == shape:
                return Residual(linear, other)
        return Declined("a sum that is not of a Linear and something computed of its shape")

    def replace(self, op: Any, node: ir.Node, found: Residual) -> ir.Value:
        """The Linear behind what it is added to."""
        inputs = list(found.linear.inputs)
        inputs[2] = found.value
        return again(op, found.linear, inputs)
