"""A row divided by its length becomes half of a LayerNormalization of the row and its negative.

The mean of (x, -x) is zero and its variance is |x|^2 / D for D columns, so that its LayerNormalization is
(x, -x) sqrt(D) / |x|: operators that the contract knows and INT8 is quantized around. Towers of CLIP and
SigLIP end so, their embeddings being compared by cosines (Radford et al. 2021). Exact but for a row shorter
than the epsilon below, which no embedding is.
"""

import math
from typing import Any, ClassVar, NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.host.rewrite.length import normed, unguarded
from vit_edge.host.rewrite.rule import Declined, NodeRule
from vit_edge.host.rewrite.values import constant, static_shape, typed

_EPSILON = 1e-24  # of the mean square


class _Row(NamedTuple):
    x: ir.Value
    columns: int


class RaiseUnit(NodeRule[_Row]):
    """Div(x, ReduceL2(x)) of one row -> Mul(Split(LayerNormalization(Concat(x, -x))), 1 / sqrt(D))."""

    ROOTS: ClassVar[tuple[str, ...]] = ("Div",)
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,3] x) => (float[1,3] y)
        <int64[1] axes = {-1}, float least = {1e-12}, int64[2] shape = {1, 3},
         float[1,1] l, float[1,1] c, float[1,3] e> {
            l = ReduceL2<keepdims=1>(x, axes)
            c = Clip(l, least)
            e = Expand(c, shape)
            y = Div(x, e)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,3] x, float[1,3] z) => (float[1,3] y)
        <int64[1] axes = {-1}, float[1,1] l> {
            l = ReduceL2<keepdims=1>(z, axes)
            y = Div(x, l)
        }"""

    def find(self, node: ir.Node) -> _Row | Declined:
        """One row, and its own length under it, guarded or not."""
        x, shape = node.inputs[0], static_shape(node.inputs[0])
        if x is None or shape is None or len(shape) != 2 or shape[0] != 1:
            return Declined("what is divided is not one row")
        length = unguarded(node.inputs[1])
        if length is None:
            return Declined("the divisor is no length with a small guard")
        if normed(length) is not x:
            return Declined("the divisor is not the length of the row itself")
        return _Row(x, shape[1])

    def replace(self, op: Any, node: ir.Node, found: _Row) -> ir.Value:
        """The normalization of both, one half of it, scaled."""
        x, columns = found
        minus = constant(op, np.asarray(-1.0, np.float32), "factor")
        both = op.Concat(x, typed(op.Mul(x, minus), (1, columns)), axis=1)
        gamma = constant(op, np.ones(2 * columns, np.float32), "gamma")
        made = op.LayerNormalization(typed(both, (1, 2 * columns)), gamma, axis=-1, epsilon=_EPSILON)
        sizes = constant(op, np.asarray([columns, columns], np.int64), "split")
        first, _ = op.Split(typed(made, (1, 2 * columns)), sizes, axis=1, _outputs=2)
        scale = constant(op, np.asarray(1.0 / math.sqrt(columns), np.float32), "factor")
        return typed(op.Mul(typed(first, (1, columns)), scale), (1, columns))
