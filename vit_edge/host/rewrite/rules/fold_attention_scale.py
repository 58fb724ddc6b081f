"""The attention scale 1/sqrt(head_dim) is folded into the weight and bias of the queries."""

from typing import Any

import numpy as np
import onnx_ir as ir

from vit_edge.host.rewrite.composites import LINEAR, is_composite
from vit_edge.host.rewrite.rule import NodeRule, matched
from vit_edge.host.rewrite.values import attention, integer, linear, linear_parts, number


class FoldAttentionScale(NodeRule):
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

    def accept_node(self, node: ir.Node) -> str | None:
        """There is a scale, and the queries are a Linear."""
        if number(node, "scale") == 1.0:
            return "the scale is 1 already"
        return None if is_composite(node.inputs[0], LINEAR) else "the queries are not a linear projection"

    def rewrite_node(self, op: Any, node: ir.Node) -> ir.Value:
        """The same attention without a scale."""
        q, k, v = (matched(value, node) for value in node.inputs)
        x, weight, bias = linear_parts(matched(q.producer(), node))
        scale = np.float32(number(node, "scale"))
        queries = linear(op, x, weight * scale, None if bias is None else bias * scale)
        return attention(op, queries, k, v, heads=integer(node, "heads"), scale=1.0)
