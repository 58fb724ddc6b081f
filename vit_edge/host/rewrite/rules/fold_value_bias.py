"""The bias of the values moves through attention into the bias of the output projection.

Exact: the attention weights of a row sum to one, so softmax(s) @ (v + b) = softmax(s) @ v + b.
"""

from typing import Any

import onnx_ir as ir

from vit_edge.host.rewrite.composites import ATTENTION, LINEAR, is_composite
from vit_edge.host.rewrite.rule import NodeRule, matched
from vit_edge.host.rewrite.values import attention, integer, linear, linear_parts, number, only_user


class FoldValueBias(NodeRule):
    """Linear(Attention(q, k, xWv + bv), W, b) -> Linear(Attention(q, k, xWv), W, b + bv @ W)."""

    ROOTS = ("vit_edge::Linear",)
    FIRES = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,2] q, float[3,2] k, float[3,2] x) => (float[3,2] y)
        <float[2,2] w = {1.0, 2.0, 3.0, 4.0}, float[2] b = {0.5, -0.5}, float[3,2] v, float[3,2] a> {
            v = vit_edge.Linear(x, w, b)
            a = vit_edge.Attention<heads=1, scale=0.5>(q, k, v)
            y = vit_edge.Linear(a, w, b)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,2] q, float[3,2] k, float[3,2] x) => (float[3,2] y, float[3,2] a)
        <float[2,2] w = {1.0, 2.0, 3.0, 4.0}, float[2] b = {0.5, -0.5}, float[3,2] v> {
            v = vit_edge.Linear(x, w, b)
            a = vit_edge.Attention<heads=1, scale=0.5>(q, k, v)
            y = vit_edge.Linear(a, w, b)
        }"""

    def accept_node(self, node: ir.Node) -> str | None:
        """The projection alone reads an attention whose values are a Linear with a bias."""
        mixed = matched(node.inputs[0], node)
        if not is_composite(mixed, ATTENTION):
            return "not the output projection of an attention"
        if only_user(mixed) is None:
            return "the attention is read by others than the projection"
        values = matched(matched(mixed.producer(), node).inputs[2], node).producer()
        if values is None or not is_composite(values, LINEAR) or linear_parts(values)[2] is None:
            return "the values have no bias"
        return None

    def rewrite_node(self, op: Any, node: ir.Node) -> ir.Value:
        """The bias, multiplied by the projection's weight, joins the projection's bias."""
        mixed, weight, bias = linear_parts(node)
        inner = matched(mixed.producer(), node)
        q, k, v = (matched(value, node) for value in inner.inputs)
        x, value_weight, value_bias = linear_parts(matched(v.producer(), node))
        values = linear(op, x, value_weight, None)
        made = attention(op, q, k, values, heads=integer(inner, "heads"), scale=number(inner, "scale"))
        moved = matched(value_bias, node) @ weight
        return linear(op, made, weight, moved if bias is None else bias + moved)
