"""Queries or keys divided by their lengths, each head by itself, become HeadUnit on their Linear.

Source: Liu et al. 2022 (Swin Transformer V2), section 3.2: cosine attention. A factor of each head that the
scores are multiplied with goes in by `fold_head_factor`.
"""

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.host.rewrite.composites import LINEAR, is_composite, is_op
from vit_edge.host.rewrite.heads import HeadLayout, head_layout, in_layout
from vit_edge.host.rewrite.layout import REORDERING, SELECTING, trace
from vit_edge.host.rewrite.length import normed, unguarded
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import head_unit, integer, linear, linear_parts, static_shape


class _Heads(NamedTuple):
    linear: ir.Node
    layout: HeadLayout


class RaiseHeadUnit(NodeRule[_Heads]):
    """split(Linear(x, W)) / |split(Linear(x, W))| -> split(HeadUnit(Linear(x, W)))."""

    ROOTS = ("Div", "LpNormalization")
    FIRES = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,2] x) => (float[1,2,3,2] y)
        <float[2,4] w = {1., 2., 3., 4., 4., 3., 2., 7.}, int64[4] split = {1, 3, 2, 2}, int64[1] axes = {-1},
         float least = {1e-12}, float[3,4] h, float[1,3,2,2] r, float[1,2,3,2] t, float[1,2,3,1] l,
         float[1,2,3,1] c> {
            h = vit_edge.Linear(x, w)
            r = Reshape(h, split)
            t = Transpose<perm=[0, 2, 1, 3]>(r)
            l = ReduceL2<keepdims=1>(t, axes)
            c = Clip(l, least)
            y = Div(t, c)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,2] x) => (float[1,3,4] y)
        <float[2,4] w = {1., 2., 3., 4., 4., 3., 2., 7.}, int64[3] whole = {1, 3, 4}, int64[1] axes = {-1},
         float[3,4] h, float[1,3,4] r, float[1,3,1] l> {
            h = vit_edge.Linear(x, w)
            r = Reshape(h, whole)
            l = ReduceL2<keepdims=1>(r, axes)
            y = Div(r, l)
        }"""

    def find(self, node: ir.Node) -> _Heads | Declined:
        """What is divided is columns of a Linear, head by head, and its own length stands under it."""
        x = required(node.inputs[0], node)
        if not _by_length(node, x):
            return Declined("the divisor is not the length of what is divided")
        found = trace(x, through=(*REORDERING, *SELECTING))
        source = None if found is None else found.source.producer()
        shape = None if found is None else static_shape(found.source)
        if found is None or source is None or shape is None or not is_composite(source, LINEAR):
            return Declined("what is divided is not a linear projection")
        layout = head_layout(found.index, shape)
        return layout if isinstance(layout, Declined) else _Heads(source, layout)

    def replace(self, op: Any, node: ir.Node, found: _Heads) -> ir.Value:
        """The columns in head order, divided, in the layout they had."""
        x, weight, bias = linear_parts(found.linear)
        order = found.layout.columns.reshape(-1)
        ordered = linear(op, x, weight[:, order], None if bias is None else bias[order])
        made = head_unit(op, ordered, np.ones(found.layout.heads, np.float32))
        return in_layout(op, made, found.layout, required(static_shape(node.outputs[0]), node))


def _by_length(node: ir.Node, x: ir.Value) -> bool:
    """Whether a value is divided by its own length over the last axis."""
    if is_op(node, "LpNormalization"):
        last = len(static_shape(x) or ()) - 1
        return integer(node, "p", 2) == 2 and integer(node, "axis", -1) in (-1, last)
    length = unguarded(node.inputs[1])
    return length is not None and normed(length) is x
