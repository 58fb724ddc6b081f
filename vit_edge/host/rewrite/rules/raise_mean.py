"""ReduceMean over the tokens becomes MeanTokens (mean pooling)."""

import math
from typing import Any

import onnx_ir as ir

from vit_edge.host.rewrite.composites import DOMAIN
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import constant_of, flatten, reshape, static_shape, typed


class RaiseMean(NodeRule[tuple[int, ...]]):
    """ReduceMean(x (1, tokens, dim), axes of the tokens) -> Reshape(MeanTokens(Reshape(x)))."""

    ROOTS = ("ReduceMean",)
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,3,2] x) => (float[1,2] y) <int64[1] axes = {1}> { y = ReduceMean<keepdims=0>(x, axes) }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,3,2] x) => (float[1,3] y) <int64[1] axes = {2}> { y = ReduceMean<keepdims=0>(x, axes) }"""

    def find(self, node: ir.Node) -> tuple[int, ...] | Declined:
        """The result's shape, where the mean is over all rows of one image."""
        shape, result = static_shape(node.inputs[0]), static_shape(node.outputs[0])
        axes = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
        if shape is None or len(shape) < 2 or axes is None or result is None:
            return Declined("the shape or the axes are not static")
        reduced = {int(axis) % len(shape) for axis in axes.reshape(-1)}
        kept = [size for axis, size in enumerate(shape[:-1]) if axis not in reduced]
        if len(shape) - 1 in reduced or math.prod(kept) != 1:
            return Declined("the mean is not over the tokens")
        return result

    def replace(self, op: Any, node: ir.Node, found: tuple[int, ...]) -> ir.Value:
        """Mean of the rows."""
        flat = flatten(op, required(node.inputs[0], node))
        columns = required(static_shape(flat), node)[1]
        made = typed(op.MeanTokens(flat, _domain=DOMAIN, _version=1), (1, columns))
        return reshape(op, made, found)
