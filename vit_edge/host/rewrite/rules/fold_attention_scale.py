"""The attention scale 1/sqrt(head_dim) is folded into the weight and bias of the queries."""

from typing import Any

import numpy as np
import onnx_ir as ir

from vit_edge.host.rewrite.composites import LINEAR, is_composite
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import LinearParts, attention, integer, linear, linear_parts, number


class FoldAttentionScale(NodeRule[LinearParts]):
    """Attention(Linear(x, W, b), k, v; scale) -> Attention(Linear(x, W * scale, b * scale), k, v; 1)."""

    ROOTS = ("vit_edge::Attention",)
    FIRES = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,2] x, float[3,2] k, float[3,2] v) => (float[3,2] y)
        <float[2,2] w = {1.0, 2.0, 3.0, 4.0}, float[2] b = {0.5, -0.5}, float[3,2] q> {
            q = vit_edge.Linear(x, w, b)
            y = vit_edge.Attention<heads=1, scale=0.5>(q, k, v)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,2] q, float[3,2] k, float[3,2] v) => (float[3,2] y) {
            y = vit_edge.Attention<heads=1, scale=0.5>(q, k, v)
        }"""

    def find(self, node: ir.Node) -> LinearParts | Declined:
        """The queries, which are a Linear, where there is a scale."""
        if number(node, "scale") == 1.0:
            return Declined("the scale is 1 already")
        queries = required(node.inputs[0], node).producer()
        if queries is None or not is_composite(queries, LINEAR):
            return Declined("the queries are not a linear projection")
        return linear_parts(queries)

    def replace(self, op: Any, node: ir.Node, found: LinearParts) -> ir.Value:
        """The same attention without a scale."""
        _, k, v = (required(value, node) for value in node.inputs)
        x, weight, bias = found
        scale = np.float32(number(node, "scale"))
        queries = linear(op, x, weight * scale, None if bias is None else bias * scale)
        return attention(op, queries, k, v, heads=integer(node, "heads"), scale=1.0)
