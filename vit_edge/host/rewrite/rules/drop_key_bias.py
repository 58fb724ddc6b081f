"""The bias of the keys is dropped: it adds the same number to every score of a row, and Softmax ignores that.

Exact: softmax is invariant to a shift, and q @ (k + b) = q @ k + (q @ b), the same for every key.
"""

from typing import Any

import onnx_ir as ir

from vit_edge.host.rewrite.composites import LINEAR, is_composite
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import LinearParts, attention_like, linear, linear_parts


class DropKeyBias(NodeRule[LinearParts]):
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

    def find(self, node: ir.Node) -> LinearParts | Declined:
        """The keys, which are a Linear with a bias."""
        key = required(node.inputs[1], node).producer()
        if key is None or not is_composite(key, LINEAR):
            return Declined("the keys are not a linear projection")
        keys = linear_parts(key)
        return keys if keys[2] is not None else Declined("the keys have no bias")

    def replace(self, op: Any, node: ir.Node, found: LinearParts) -> ir.Value:
        """The same attention, keys without bias."""
        q, _, v = (required(value, node) for value in node.inputs[:3])
        x, weight, _ = found
        keys = linear(op, x, weight, None)
        return attention_like(op, node, (q, keys, v))
