"""Tokens put into another order, however it was written, become PermuteTokens.

Source: Liu et al. 2021 (Swin): windows, shifted windows (torch.roll), and patches merged two by two are the
same rows in another order. The chain is run on positions; whole rows must move.
"""

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.host.rewrite.combination import combination
from vit_edge.host.rewrite.layout import Indices
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import permute, reshape, static_shape


class _Order(NamedTuple):
    source: ir.Value  # (tokens, dim)
    order: Indices  # (tokens,) which row of the source each row is


class RaisePermute(NodeRule[_Order]):
    """Reshape(Transpose(Reshape(x))) to (rows, columns) -> Reshape(PermuteTokens(x))."""

    ROOTS = ("Reshape",)
    FIRES = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[4,3] x) => (float[2,6] y)
        <int64[4] grid = {2, 1, 2, 3}, int64[2] flat = {2, 6}, float[2,1,2,3] a, float[2,1,2,3] b> {
            a = Reshape(x, grid)
            b = Transpose<perm=[2, 1, 0, 3]>(a)
            y = Reshape(b, flat)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[4,3] x) => (float[3,4] y)
        <int64[2] flat = {3, 4}, float[3,4] a> {
            a = Transpose<perm=[1, 0]>(x)
            y = Reshape(a, flat)
        }"""

    def find(self, node: ir.Node) -> _Order | Declined:
        """All rows of one value, each whole, in another order."""
        shape, found = static_shape(node.outputs[0]), combination(node.outputs[0])
        source = None if found is None else static_shape(found.source)
        if found is None or shape is None or source is None or len(shape) != 2 or len(source) != 2:
            return Declined("not rows of tokens")
        term = found.terms[0]
        if len(found.terms) > 1 or (term.factor != 1).any() or term.index.size != source[0] * source[1]:
            return Declined("not all numbers of one value")
        rows = term.index.reshape(source)
        order = rows[:, 0] // source[1]
        whole = np.array_equal(rows, order[:, None] * source[1] + np.arange(source[1]))
        if shape[1] % source[1] or not whole:
            return Declined("rows are not moved as a whole")
        if np.array_equal(order, np.arange(source[0])):
            return Declined("the rows are in order")
        return _Order(found.source, order)

    def replace(self, op: Any, node: ir.Node, found: _Order) -> ir.Value:
        """The rows in their order, in the shape they had."""
        made = permute(op, found.source, found.order)
        return reshape(op, made, required(static_shape(node.outputs[0]), node))
