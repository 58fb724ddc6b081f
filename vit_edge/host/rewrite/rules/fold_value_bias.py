"""The bias of the values moves through attention into the bias of the output projection.

Exact: the attention weights of a row sum to one, so softmax(s) @ (v + b) = softmax(s) @ v + b.
"""

from typing import Any, NamedTuple

import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.composites import ATTENTION, LINEAR, is_composite
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import (
    LinearParts,
    attention_like,
    linear,
    linear_parts,
    only_user,
)


class _Biased(NamedTuple):
    attention: ir.Node
    values: LinearParts
    bias: Array  # of the values


class FoldValueBias(NodeRule[_Biased]):
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

    def find(self, node: ir.Node) -> _Biased | Declined:
        """The projection alone reads an attention whose values are a Linear with a bias."""
        mixed = required(node.inputs[0], node)
        inner = mixed.producer()
        if inner is None or not is_composite(inner, ATTENTION):
            return Declined("not the output projection of an attention")
        if only_user(mixed) is None:
            return Declined("the attention is read by others than the projection")
        maker = required(inner.inputs[2], node).producer()
        values = linear_parts(maker) if maker is not None and is_composite(maker, LINEAR) else None
        if values is None or values[2] is None:
            return Declined("the values have no bias")
        return _Biased(inner, values, values[2])

    def replace(self, op: Any, node: ir.Node, found: _Biased) -> ir.Value:
        """The bias, multiplied by the projection's weight, joins the projection's bias."""
        inner, (x, value_weight, _), value_bias = found
        _, weight, bias = linear_parts(node)
        q, k, _ = (required(value, node) for value in inner.inputs[:3])
        values = linear(op, x, value_weight, None)
        made = attention_like(op, inner, (q, k, values))
        moved = value_bias @ weight
        return linear(op, made, weight, moved if bias is None else bias + moved)
