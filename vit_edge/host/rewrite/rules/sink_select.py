"""Compute only the tokens that are read: SelectTokens moves in front of whatever treats each token alone.

Where the head reads only the CLS token, the last block's MLP, projection and queries are left with one row;
its keys and values still need every token. Exact. About 7 % of a ViT's multiplications.
"""

from typing import Any

import onnx_ir as ir

from vit_edge.host.rewrite.composites import (
    ATTENTION,
    HEAD_NORM,
    HEAD_UNIT,
    LINEAR,
    RMS_NORM,
    ROTARY,
    SWISH,
    is_composite,
    is_op,
)
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import (
    again,
    attention_bias,
    attention_like,
    by_head,
    by_head_again,
    integer,
    linear,
    linear_parts,
    only_user,
    select,
    static_shape,
)

COMPOSITES = (ATTENTION, LINEAR, HEAD_NORM, HEAD_UNIT, RMS_NORM, SWISH)
ELEMENTWISE = ("Gelu", "Relu", "Tanh", "Sigmoid", "LayerNormalization", "Add", "Mul")


class SinkSelect(NodeRule[ir.Node]):
    """SelectTokens(f(x)) -> f(SelectTokens(x)) for a tokenwise f that nothing else reads."""

    ROOTS = ("vit_edge::SelectTokens",)
    FIRES = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[4,2] x, float[4,2] r) => (float[1,2] y)
        <float[2,2] w = {1.0, 2.0, 3.0, 4.0}, float[4,2] a, float[4,2] b, float[4,2] c> {
            a = vit_edge.Linear(x, w)
            b = Gelu(a)
            c = Add(b, r)
            y = vit_edge.SelectTokens<start=0, stop=1>(c)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[4,2] x) => (float[1,2] y, float[4,2] b) <float[4,2] a> {
            a = Sigmoid(x)
            b = Gelu(a)
            y = vit_edge.SelectTokens<start=0, stop=1>(b)
        }"""

    def find(self, node: ir.Node) -> ir.Node | Declined:
        """The tokenwise operator of whose tokens few are read, and by nothing else."""
        x = required(node.inputs[0], node)
        rows, maker = required(static_shape(x), node)[0], x.producer()
        count = integer(node, "stop") - integer(node, "start")
        if 2 * count > rows:
            return Declined(f"{count} of {rows} tokens are read: nothing to gain")
        if maker is None or not _tokenwise(maker):
            return Declined("what is selected from does not treat each token alone")
        if is_composite(maker, ATTENTION) and _knows_places(maker):
            return Declined("the queries are told where they stand, which an embedder needs of every token")
        return maker if only_user(x) is not None else Declined("other readers need every token")

    def replace(self, op: Any, node: ir.Node, found: ir.Node) -> ir.Value:
        """Select the operands that have a row per token."""
        maker = found
        start, stop = integer(node, "start"), integer(node, "stop")
        rows = required(static_shape(node.inputs[0]), node)[0]
        if is_composite(maker, ATTENTION):
            q, k, v = (required(value, node) for value in maker.inputs[:3])
            return attention_like(op, maker, (select(op, q, start, stop), k, v))
        if is_composite(maker, HEAD_NORM) or is_composite(maker, HEAD_UNIT):
            return by_head_again(op, [maker], select(op, required(maker.inputs[0], node), start, stop))
        if is_composite(maker, LINEAR):
            source, weight, bias = linear_parts(maker)
            return linear(op, select(op, source, start, stop), weight, bias)
        operands = [
            select(op, value, start, stop) if value is not None and _per_token(value, rows) else value
            for value in maker.inputs
        ]
        return again(op, maker, operands, required(static_shape(node.outputs[0]), node))


def _knows_places(node: ir.Node) -> bool:
    """Whether an attention has something for each query by its row: a rotation, a bias, windows."""
    turned = any(is_composite(each, ROTARY) for each in by_head(node.inputs[0])[0])
    return turned or attention_bias(node) is not None or integer(node, "windows", 1) > 1


def _tokenwise(node: ir.Node) -> bool:
    if any(is_composite(node, kind) for kind in COMPOSITES):
        return True
    return any(is_op(node, kind) for kind in ELEMENTWISE)


def _per_token(value: ir.Value, rows: int) -> bool:
    shape = static_shape(value)
    return shape is not None and len(shape) == 2 and shape[0] == rows
