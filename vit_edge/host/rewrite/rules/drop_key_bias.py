"""The bias of the keys is dropped: it adds the same number to every score of a row, and Softmax ignores that.

Exact: softmax is invariant to a shift, and q @ (k + b) = q @ k + (q @ b), the same for every key.
"""

from typing import Any

import onnx_ir as ir

from vit_edge.host.rewrite.composites import LINEAR, is_composite
from vit_edge.host.rewrite.rule import NodeRule, matched
from vit_edge.host.rewrite.values import attention, integer, linear, linear_parts, number


class DropKeyBias(NodeRule):
    """Attention(q, Linear(x, W, b), v) -> Attention(q, Linear(x, W), v)."""

    ROOTS = ("vit_edge::Attention",)
    FIRES = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,2] q, float[3,2] x, float[3,2] v) => (float[3,2] y)
        <float[2,2] w = {1.0, 2.0, 3.0, 4.0}, float[2] b = {0.5, -0.5}, float[3,2] k> {
            k = vit_edge.Linear(x, w, b)
            y = vit_edge.Attention<heads=1, scale=0.5>(q, k, v)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,2] q, float[3,2] x, float[3,2] k) => (float[3,2] y)
        <float[2,2] w = {1.0, 2.0, 3.0, 4.0}, float[2] b = {0.5, -0.5}, float[3,2] v> {
            v = vit_edge.Linear(x, w, b)
            y = vit_edge.Attention<heads=1, scale=0.5>(q, k, v)
        }"""

    def accept_node(self, node: ir.Node) -> str | None:
        """The keys are a Linear with a bias."""
        key = matched(node.inputs[1], node).producer()
        if key is None or not is_composite(key, LINEAR):
            return "the keys are not a linear projection"
        return None if linear_parts(key)[2] is not None else "the keys have no bias"

    def rewrite_node(self, op: Any, node: ir.Node) -> ir.Value:
        """The same attention, keys without bias."""
        q, k, v = (matched(value, node) for value in node.inputs)
        x, weight, _ = linear_parts(matched(k.producer(), node))
        keys = linear(op, x, weight, None)
        return attention(op, q, keys, v, heads=integer(node, "heads"), scale=number(node, "scale"))
