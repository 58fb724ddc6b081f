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

from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.rule import Declined, NodeRule
from vit_edge.host.rewrite.values import constant, constant_of, integer, scalar_of, static_shape, typed

_LEAST = 1e-6  # a guard against division by zero may be this long
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
        length = _unguarded(node.inputs[1])
        if length is None:
            return Declined("the divisor is no length with a small guard")
        if _normed(length) is not x:
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


def _unguarded(value: ir.Value | None) -> ir.Value | None:
    """A length behind Expand, and Clip, Max or Add with a small number; None where there is no such chain."""
    while value is not None:
        node = value.producer()
        if node is None:
            return None
        if is_op(node, "Expand"):
            value = node.inputs[0]
        elif is_op(node, "Clip") or is_op(node, "Max") or is_op(node, "Add"):
            inner = _guarded(node)
            if inner is None:
                return None
            value = inner
        else:
            return value
    return None


def _guarded(node: ir.Node) -> ir.Value | None:
    """What a guard lets pass, where its other side is a small number."""
    if is_op(node, "Clip"):
        least = scalar_of(node.inputs[1]) if len(node.inputs) > 1 else None
        most = node.inputs[2] if len(node.inputs) > 2 else None
        return node.inputs[0] if most is None and least is not None and 0 <= least <= _LEAST else None
    if len(node.inputs) != 2:
        return None
    for inner, other in (node.inputs, reversed(node.inputs)):
        small = scalar_of(other)
        if small is not None and 0 <= small <= _LEAST:
            return inner
    return None


def _normed(length: ir.Value) -> ir.Value | None:
    """X of ReduceL2(x), or of Sqrt(ReduceSum(x * x)) and Sqrt(ReduceSum(x ^ 2)), over one row's columns."""
    node = length.producer()
    if node is None:
        return None
    if is_op(node, "ReduceL2"):
        return node.inputs[0] if _of_columns(node) else None
    total = node.inputs[0].producer() if is_op(node, "Sqrt") and node.inputs[0] is not None else None
    if total is None or not is_op(total, "ReduceSum") or not _of_columns(total):
        return None
    square = total.inputs[0].producer() if total.inputs[0] is not None else None
    if square is None:
        return None
    if is_op(square, "Mul"):
        return square.inputs[0] if square.inputs[0] is square.inputs[1] else None
    return square.inputs[0] if is_op(square, "Pow") and scalar_of(square.inputs[1]) == 2.0 else None


def _of_columns(node: ir.Node) -> bool:
    """Whether a reduction is over the columns, which it keeps as one."""
    axes = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    given = node.attributes.get("axes")  # opset 17 and before
    named = list(given.as_ints()) if given is not None else [] if axes is None else axes.reshape(-1).tolist()
    return named in ([-1], [1]) and integer(node, "keepdims", 1) == 1
