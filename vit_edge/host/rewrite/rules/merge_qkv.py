"""The projections of one attention that read the same tokens become one Linear and a Split.

All three in an ordinary block; keys and values in a last block whose queries are the CLS token alone.
"""

from typing import Any

import numpy as np
import onnx_ir as ir

from vit_edge.host.rewrite.composites import LINEAR, is_composite
from vit_edge.host.rewrite.rule import NodeRule, matched
from vit_edge.host.rewrite.values import (
    Array,
    attention,
    constant,
    integer,
    linear,
    linear_parts,
    number,
    static_shape,
    typed,
)


class MergeQkv(NodeRule):
    """Attention(Linear(x, Wq), Linear(x, Wk), Linear(x, Wv)) -> Attention(Split(Linear(x, [Wq Wk Wv])))."""

    ROOTS = ("vit_edge::Attention",)
    FIRES = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,2] x) => (float[3,2] y)
        <float[2,2] wq = {1.0, 2.0, 3.0, 4.0}, float[2,2] wk = {2.0, 1.0, 3.0, 1.0},
         float[2,2] wv = {0.0, 2.0, 1.0, 4.0}, float[2] b = {0.5, -0.5},
         float[3,2] q, float[3,2] k, float[3,2] v> {
            q = vit_edge.Linear(x, wq, b)
            k = vit_edge.Linear(x, wk)
            v = vit_edge.Linear(x, wv)
            y = vit_edge.Attention<heads=1, scale=1.0>(q, k, v)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,2] x, float[3,2] z, float[3,2] v) => (float[3,2] y)
        <float[2,2] wq = {1.0, 2.0, 3.0, 4.0}, float[2,2] wk = {2.0, 1.0, 3.0, 1.0},
         float[3,2] q, float[3,2] k> {
            q = vit_edge.Linear(x, wq)
            k = vit_edge.Linear(z, wk)
            y = vit_edge.Attention<heads=1, scale=1.0>(q, k, v)
        }"""

    def accept_node(self, node: ir.Node) -> str | None:
        """At least keys and values are Linears of the same input."""
        return None if len(_shared(node)) > 1 else "the projections read different inputs"

    def rewrite_node(self, op: Any, node: ir.Node) -> ir.Value:
        """One Linear with the columns side by side, and a bias if any of them had one."""
        shared = _shared(node)
        values = [matched(value, node) for value in node.inputs]
        parts = [linear_parts(matched(values[i].producer(), node)) for i in shared]
        weight = np.concatenate([part[1] for part in parts], axis=1)
        bias: Array | None = None
        if any(part[2] is not None for part in parts):
            vectors = [
                np.zeros(part[1].shape[1], np.float32) if part[2] is None else part[2] for part in parts
            ]
            bias = np.concatenate(vectors)
        sizes = [part[1].shape[1] for part in parts]
        merged = linear(op, parts[0][0], weight, bias)
        split = op.Split(
            merged, constant(op, np.asarray(sizes, np.int64), "sizes"), axis=1, _outputs=len(sizes)
        )
        rows = matched(static_shape(merged), node)[0]
        for i, output, size in zip(shared, split, sizes, strict=True):
            values[i] = typed(output, (rows, size))
        q, k, v = values
        return attention(op, q, k, v, heads=integer(node, "heads"), scale=number(node, "scale"))


def _shared(node: ir.Node) -> list[int]:
    """Positions, among q, k and v, of the Linears that read what the values read."""
    values = matched(node.inputs[2], node).producer()
    if values is None or not is_composite(values, LINEAR):
        return []
    makers = [matched(value, node).producer() for value in node.inputs]
    return [
        i
        for i, maker in enumerate(makers)
        if maker is not None and is_composite(maker, LINEAR) and maker.inputs[0] is values.inputs[0]
    ]
