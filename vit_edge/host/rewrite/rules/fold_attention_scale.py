"""The attention scale 1/sqrt(head_dim) is folded into the weight and bias of the queries.

A rotation between the two lets it through; a normalization takes it into its own scale and bias.
"""

from typing import Any

import numpy as np
import onnx_ir as ir

from vit_edge.host.rewrite.composites import HEAD_NORM, HEAD_UNIT, LINEAR, is_composite
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import (
    attention_like,
    by_head,
    by_head_again,
    constant,
    constant_of,
    head_norm,
    head_unit,
    integer,
    linear,
    linear_parts,
    number,
)


class FoldAttentionScale(NodeRule[ir.Value]):
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

    def find(self, node: ir.Node) -> ir.Value | Declined:
        """The queries, where there is a scale and something to fold it into."""
        if number(node, "scale") == 1.0:
            return Declined("the scale is 1 already")
        queries = required(node.inputs[0], node)
        chain, made = by_head(queries)
        normed = any(is_composite(each, HEAD_NORM) or is_composite(each, HEAD_UNIT) for each in chain)
        if normed or constant_of(made) is not None or is_composite(made, LINEAR):
            return queries
        return Declined("the queries are not a linear projection")

    def replace(self, op: Any, node: ir.Node, found: ir.Value) -> ir.Value:
        """The same attention without a scale."""
        _, k, v = (required(value, node) for value in node.inputs[:3])
        queries = _scaled(op, node, found, number(node, "scale"))
        return attention_like(op, node, (queries, k, v), scale=1.0)


def _scaled(op: Any, reader: ir.Node, queries: ir.Value, scale: float) -> ir.Value:
    """The queries times the scale."""
    node, factor = queries.producer(), np.float32(scale)
    if node is None:
        return constant(op, required(constant_of(queries), reader) * factor, "queries")
    if is_composite(node, LINEAR):
        x, weight, bias = linear_parts(node)
        return linear(op, x, weight * factor, None if bias is None else bias * factor)
    inner = required(node.inputs[0], node)
    if is_composite(node, HEAD_NORM):
        gamma, beta = (required(constant_of(value), node) for value in node.inputs[1:])
        heads, epsilon = integer(node, "heads"), number(node, "epsilon")
        return head_norm(op, inner, gamma * factor, beta * factor, heads, epsilon)
    if is_composite(node, HEAD_UNIT):
        return head_unit(op, inner, required(constant_of(node.inputs[1]), node) * factor)
    return by_head_again(op, [node], _scaled(op, node, inner, scale))
