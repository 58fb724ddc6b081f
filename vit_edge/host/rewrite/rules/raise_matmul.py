"""MatMul with a constant matrix on the right becomes Linear, the leading dimensions flattened to rows."""

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from vit_edge.host.rewrite.rule import NodeRule, matched
from vit_edge.host.rewrite.values import constant_of, flatten, linear, reshape, static_shape


class RaiseMatMul(NodeRule):
    """MatMul(x, W) -> Reshape(Linear(Reshape(x), W))."""

    ROOTS: ClassVar[tuple[str, ...]] = ("MatMul",)
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,3,2] x) => (float[1,3,2] y) <float[2,2] w = {1.0, 2.0, 3.0, 4.0}> { y = MatMul(x, w) }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,3,2] x) => (float[1,2,2] y)
        <float[2,3] w = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}> { y = MatMul(w, x) }"""

    def accept_node(self, node: ir.Node) -> str | None:
        """The right operand is a constant float32 matrix and the left one is not constant."""
        weight = constant_of(node.inputs[1])
        if weight is None or weight.ndim != 2 or weight.dtype != np.float32:
            return "the right operand is not a constant float32 matrix"
        shape = static_shape(node.inputs[0])
        if shape is None or len(shape) < 2:
            return "the left operand has no static shape of two or more dimensions"
        return None

    def rewrite_node(self, op: Any, node: ir.Node) -> ir.Value:
        """Flatten, multiply, restore."""
        x, weight = matched(node.inputs[0], node), matched(constant_of(node.inputs[1]), node)
        shape = matched(static_shape(x), node)
        return reshape(op, linear(op, flatten(op, x), weight, None), (*shape[:-1], weight.shape[1]))
