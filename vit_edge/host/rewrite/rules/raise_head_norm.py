"""LayerNormalization of each head's queries or keys by themselves becomes HeadNorm on their Linear.

Source: Dehghani et al. 2023 (ViT-22B); Henry et al. 2020.
"""

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.composites import LINEAR, is_composite
from vit_edge.host.rewrite.layout import REORDERING, SELECTING, Indices, trace
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import (
    constant_of,
    head_norm,
    integer,
    linear,
    linear_parts,
    number,
    reshape,
    static_shape,
    transpose,
)


class _Normed(NamedTuple):
    linear: ir.Node
    columns: Indices  # (heads, width), of that Linear
    scale: Array  # (width,)
    bias: Array
    epsilon: float
    heads_first: bool  # the layout: (heads, tokens, width), else (tokens, heads, width)


class RaiseHeadNorm(NodeRule[_Normed]):
    """LayerNormalization(split(Linear(x, W))) -> split(HeadNorm(Linear(x, W)))."""

    ROOTS = ("LayerNormalization",)
    FIRES = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,2] x) => (float[1,2,3,2] y)
        <float[2,4] w = {1., 2., 3., 4., 4., 3., 2., 7.}, float[2] s = {1., 2.}, float[2] b = {0.5, -0.5},
         int64[4] split = {1, 3, 2, 2}, float[3,4] h, float[1,3,2,2] r, float[1,2,3,2] t> {
            h = vit_edge.Linear(x, w)
            r = Reshape(h, split)
            t = Transpose<perm=[0, 2, 1, 3]>(r)
            y = LayerNormalization<axis=-1, epsilon=0.1>(t, s, b)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,2] x) => (float[1,3,4] y)
        <float[2,4] w = {1., 2., 3., 4., 4., 3., 2., 7.}, float[4] s = {1., 2., 3., 4.},
         int64[3] whole = {1, 3, 4}, float[3,4] h, float[1,3,4] r> {
            h = vit_edge.Linear(x, w)
            r = Reshape(h, whole)
            y = LayerNormalization<axis=-1>(r, s)
        }"""

    def find(self, node: ir.Node) -> _Normed | Declined:
        """The input is columns of a Linear, head by head."""
        found = trace(required(node.inputs[0], node), through=(*REORDERING, *SELECTING))
        source = None if found is None else found.source.producer()
        shape = None if found is None else static_shape(found.source)
        if found is None or source is None or shape is None or not is_composite(source, LINEAR):
            return Declined("what is normalised is not a linear projection")
        gamma = constant_of(node.inputs[1])
        index = found.index
        while index.ndim > 3 and index.shape[0] == 1:
            index = index[0]
        last = integer(node, "axis", -1) in (-1, found.index.ndim - 1)
        if gamma is None or not last or index.ndim != 3:
            return Declined("the normalization is not of the heads of one image")
        layouts = {True: index, False: index.swapaxes(0, 1)}
        heads_first = next((first for first, each in layouts.items() if _apart(each, shape)), None)
        if heads_first is None:
            return Declined("the normalization mixes tokens")
        columns = layouts[heads_first][:, 0]
        if len(columns) == 1:
            return Declined("there is one head only, which is the whole row")
        beta = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
        beta = np.zeros_like(gamma) if beta is None else beta
        return _Normed(source, columns, gamma, beta, number(node, "epsilon", 1e-5), heads_first)

    def replace(self, op: Any, node: ir.Node, found: _Normed) -> ir.Value:
        """The columns in head order, normalised, in the layout they had."""
        x, weight, bias = linear_parts(found.linear)
        order, (heads, width) = found.columns.reshape(-1), found.columns.shape
        ordered = linear(op, x, weight[:, order], None if bias is None else bias[order])
        made = head_norm(op, ordered, found.scale, found.bias, heads, found.epsilon)
        tokens = required(static_shape(made), node)[0]
        split = reshape(op, made, (1, tokens, heads, width))
        shape = required(static_shape(node.outputs[0]), node)
        return reshape(op, transpose(op, split, (0, 2, 1, 3)) if found.heads_first else split, shape)


def _apart(index: Indices, shape: tuple[int, ...]) -> bool:
    """Whether positions (heads, tokens, width) take the same columns of every row of a source."""
    rows = np.arange(shape[0])[:, None] * shape[1]
    return index.shape[1] == shape[0] and np.array_equal(index, rows + index[:, :1])
