"""The projections of one attention that read the same tokens become one Linear and a Split.

All three in an ordinary block; keys and values in a last block whose queries are the CLS token alone.
"""

from typing import Any

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.composites import LINEAR, is_composite
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import (
    LinearParts,
    attention,
    constant,
    integer,
    linear,
    linear_parts,
    number,
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
        makers = [required(value, node).producer() for value in node.inputs]
        linears = {
            i: linear_parts(maker)
            for i, maker in enumerate(makers)
            if maker is not None and is_composite(maker, LINEAR)
        }
        shared = {i: parts for i, parts in linears.items() if 2 in linears and parts[0] is linears[2][0]}
        return shared if len(shared) > 1 else Declined("the projections read different inputs")

    def replace(self, op: Any, node: ir.Node, found: dict[int, LinearParts]) -> ir.Value:
        """One Linear with the columns side by side, and a bias if any of them had one."""
        values = [required(value, node) for value in node.inputs]
        parts = list(found.values())
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
        rows = required(static_shape(merged), node)[0]
        for i, output, size in zip(found, split, sizes, strict=True):
            values[i] = typed(output, (rows, size))
        q, k, v = values
        return attention(op, q, k, v, heads=integer(node, "heads"), scale=number(node, "scale"))
