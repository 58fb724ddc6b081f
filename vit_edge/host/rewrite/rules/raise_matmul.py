"""MatMul with a constant matrix on the right becomes Linear, the leading dimensions flattened to rows."""

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import constant_of, flatten, linear, reshape, static_shape


class RaiseMatMul(NodeRule[tuple[Array, tuple[int, ...]]]):
    """MatMul(x, W) -> Reshape(Linear(Reshape(x), W))."""

    ROOTS: ClassVar[tuple[str, ...]] = ("MatMul",)
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,3,2] x) => (float[1,3,2] y) <float[2,2] w = {1.0, 2.0, 3.0, 4.0}> { y = MatMul(x, w) }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,3,2] x) => (float[1,2,2] y)
        <float[2,3] w = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}> { y = MatMul(w, x) }"""

    def find(self, node: ir.Node) -> tuple[Array, tuple[int, ...]] | Declined:
        """(the constant float32 matrix on the right, the shape of the operand on the left)."""
        weight = constant_of(node.inputs[1])
        if weight is None or weight.ndim != 2 or weight.dtype != np.float32:
            return Declined("the right operand is not a constant float32 matrix")
        shape = static_shape(node.inputs[0])
        if shape is None or len(shape) < 2:
            return Declined("the left operand has no static shape of two or more dimensions")
        return weight, shape

    def replace(self, op: Any, node: ir.Node, found: tuple[Array, tuple[int, ...]]) -> ir.Value:
        """Flatten, multiply, restore."""
        x, (weight, shape) = required(node.inputs[0], node), found
        return reshape(op, linear(op, flatten(op, x), weight, None), (*shape[:-1], weight.shape[1]))
