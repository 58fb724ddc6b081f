"""The projections of one attention that read the same tokens become one Linear and a Split.

All three in an ordinary block; keys and values in a last block whose queries are the CLS token alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.composites import LINEAR, is_composite
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import (
    LinearParts,
    attention_like,
    by_head,
    by_head_again,
    constant,
    linear,
    linear_parts,
    static_shape,
    typed,
)


class MergeQkv(NodeRule[dict[int, LinearParts]]):
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

    def find(self, node: ir.Node) -> dict[int, LinearParts] | Declined:
        """The Linears that read what the values read, by their positions among q, k and v: two or three."""
        makers = [required(by_head(value)[1], node).producer() for value in node.inputs[:3]]
        linears = {
            i: linear_parts(maker)
            for i, maker in enumerate(makers)
            if maker is not None and is_composite(maker, LINEAR)
        }
        shared = {i: parts for i, parts in linears.items() if 2 in linears and parts[0] is linears[2][0]}
        return shared if len(shared) > 1 else Declined("the projections read different inputs")

    def replace(self, op: Any, node: ir.Node, found: dict[int, LinearParts]) -> ir.Value:
        """One Linear with the columns side by side, and a bias if any of them had one."""
        values = [required(value, node) for value in node.inputs[:3]]
        for i, part in zip(found, merged(op, list(found.values())), strict=True):
            values[i] = by_head_again(op, by_head(values[i])[0], part)
        return attention_like(op, node, values)


def merged(op: Any, parts: Sequence[LinearParts]) -> list[ir.Value]:
    """What several Linears of one input give, made by one Linear and a Split."""
    weight = np.concatenate([part[1] for part in parts], axis=1)
    bias: Array | None = None
    if any(part[2] is not None for part in parts):
        vectors = [np.zeros(part[1].shape[1], np.float32) if part[2] is None else part[2] for part in parts]
        bias = np.concatenate(vectors)
    sizes = [part[1].shape[1] for part in parts]
    made = linear(op, parts[0][0], weight, bias)
    split = op.Split(made, constant(op, np.asarray(sizes, np.int64), "sizes"), axis=1, _outputs=len(sizes))
    rows = (static_shape(made) or (0,))[0]
    return [typed(output, (rows, size)) for output, size in zip(split, sizes, strict=True)]
