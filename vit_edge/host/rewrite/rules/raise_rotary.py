"""Queries and keys that are turned by their positions become Rotary on their Linears.

Source: Su et al. 2021 (RoFormer); Heo et al. 2024 and Siméoni et al. 2025 (DINOv3) for two axes. The two
numbers that are turned together may be neighbours or lie half a head apart, and tokens without a position
(class, registers) may be cut off before: what is turned with what, and how far, is found by running the
operators on positions. The columns of the Linears are put into halves, in queries and keys alike.
"""

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.combination import combination
from vit_edge.host.rewrite.composites import HEAD_NORM, LINEAR, is_composite
from vit_edge.host.rewrite.layout import Indices
from vit_edge.host.rewrite.rule import Declined, NodeRule, producer_of, required
from vit_edge.host.rewrite.values import (
    constant_of,
    head_norm,
    integer,
    linear,
    linear_parts,
    number,
    reshape,
    rotary,
    static_shape,
    transpose,
    typed,
)


class _Turned(NamedTuple):
    source: ir.Value  # (tokens, any columns), of a Linear or of a HeadNorm
    columns: Indices  # (heads, width), the source's, those turned together half a head apart
    cos: Array  # (tokens, width)
    sin: Array
    scale: float  # of the whole


class _Product(NamedTuple):
    queries: _Turned
    keys: _Turned


class RaiseRotary(NodeRule[_Product]):
    """MatMul(q * cos + turned(q) * sin, the same of k) -> MatMul(Rotary(q), Rotary(k))."""

    ROOTS = ("MatMul",)
    FIRES = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[2,4] x) => (float[1,1,2,2] y)
        <float[4,4] wq = {1.,2.,3.,4., 4.,3.,2.,1., 0.,1.,0.,1., 1.,0.,1.,0.},
         float[4,4] wk = {1.,0.,3.,0., 4.,0.,2.,0., 0.,1.,0.,1., 1.,1.,1.,0.},
         float[2,4] cos = {1.,1.,1.,1., 0.6,0.8,0.6,0.8}, float[2,4] sin = {0.,0.,0.,0., 0.8,0.6,0.8,0.6},
         int64[4] heads = {1, 1, 2, 4}, int64[2] halves = {2, 2},
         float[2,4] q, float[2,4] k, float[1,1,2,4] q1, float[1,1,2,4] k1,
         float[1,1,2,2] qa, float[1,1,2,2] qb, float[1,1,2,2] ka, float[1,1,2,2] kb,
         float[1,1,2,2] qn, float[1,1,2,2] kn, float[1,1,2,4] qr, float[1,1,2,4] kr,
         float[1,1,2,4] qc, float[1,1,2,4] qs, float[1,1,2,4] kc, float[1,1,2,4] ks,
         float[1,1,2,4] qt, float[1,1,2,4] kt, float[1,1,4,2] kx> {
            q = vit_edge.Linear(x, wq)
            k = vit_edge.Linear(x, wk)
            q1 = Reshape(q, heads)
            k1 = Reshape(k, heads)
            qa, qb = Split<axis=-1>(q1, halves)
            ka, kb = Split<axis=-1>(k1, halves)
            qn = Neg(qb)
            kn = Neg(kb)
            qr = Concat<axis=-1>(qn, qa)
            kr = Concat<axis=-1>(kn, ka)
            qc = Mul(q1, cos)
            kc = Mul(k1, cos)
            qs = Mul(qr, sin)
            ks = Mul(kr, sin)
            qt = Add(qc, qs)
            kt = Add(kc, ks)
            kx = Transpose<perm=[0, 1, 3, 2]>(kt)
            y = MatMul(qt, kx)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[2,2] x, float[1,1,2,2] k) => (float[1,1,2,2] y)
        <float[2,2] w = {1., 2., 3., 4.}, float[2,2] cos = {1., 1., 0.6, 0.6}, int64[4] heads = {1, 1, 2, 2},
         float[2,2] q, float[1,1,2,2] q1, float[1,1,2,2] qt> {
            q = vit_edge.Linear(x, w)
            q1 = Reshape(q, heads)
            qt = Mul(q1, cos)
            y = MatMul(qt, k)
        }"""

    def find(self, node: ir.Node) -> _Product | Declined:
        """Both operands are turned, by the same pairs of columns."""
        if constant_of(node.inputs[1]) is not None:
            return Declined("not a product of queries and keys")
        queries = _turned(node.inputs[0], transposed=False)
        if isinstance(queries, Declined):
            return queries
        keys = _turned(node.inputs[1], transposed=True)
        if isinstance(keys, Declined):
            return keys
        inner = _within(queries), _within(keys)
        if queries.columns.shape != keys.columns.shape or not np.array_equal(*inner):
            return Declined("queries and keys are turned in different pairs")
        return _Product(queries, keys)

    def replace(self, op: Any, node: ir.Node, found: _Product) -> ir.Value:
        """The product of the two, as (1, heads, tokens, width) and (1, heads, width, tokens)."""
        q, k = _split(op, found.queries), transpose(op, _split(op, found.keys), (0, 1, 3, 2))
        rows, columns = len(found.queries.cos), len(found.keys.cos)
        product = typed(op.MatMul(q, k), (1, len(found.keys.columns), rows, columns))
        return reshape(op, product, required(static_shape(node.outputs[0]), node))


def _turned(value: ir.Value | None, *, transposed: bool) -> _Turned | Declined:
    """One operand (…, heads, tokens, width) as a rotation of columns of its source."""
    found = combination(value)
    shape = None if found is None else static_shape(found.source)
    if found is None or shape is None or len(found.terms) != 2:
        return Declined("an operand is not turned")
    # What is turned away is absent where a token has no position, what it is turned from never is.
    terms = sorted(found.terms, key=lambda term: -np.count_nonzero(term.factor))
    arrays = (array for term in terms for array in (term.index, term.factor))
    own, cos, other, sin = (_heads_apart(array, transposed) for array in arrays)
    if own.ndim != 3 or len(shape) != 2 or own.shape[1] != shape[0]:
        return Declined(f"what is turned is not one image's tokens: {own.shape} of {shape}")
    if not (is_composite(found.source, LINEAR) or is_composite(found.source, HEAD_NORM)):
        return Declined("what is turned is not a linear projection")
    rows = np.arange(shape[0])[:, None] * shape[1]
    columns, others = own[:, 0], np.where(sin != 0, other - rows, -1).max(axis=1)
    if not np.array_equal(own, rows + columns[:, None]):
        return Declined("tokens are mixed")
    if not np.array_equal(np.where(sin != 0, other, 0), np.where(sin != 0, rows + others[:, None], 0)):
        return Declined("tokens are turned in different pairs")
    if np.ptp(cos, axis=0).any() or np.ptp(sin, axis=0).any():
        return Declined("heads are turned by different angles")
    return _in_halves(found.source, columns, others, cos[0], sin[0])


def _heads_apart(array: Array, transposed: bool) -> Array:
    """(heads, tokens, width) of an operand of one image."""
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    return array.swapaxes(-1, -2) if transposed else array


def _in_halves(
    source: ir.Value, columns: Indices, others: Indices, cos: Array, sin: Array
) -> _Turned | Declined:
    """The columns in halves, where they are turned in pairs; those that are not turned make pairs, too."""
    heads, width = columns.shape
    place = [{int(column): at for at, column in enumerate(row)} for row in columns]
    pairs = np.asarray([[place[h].get(int(o), -1) for o in others[h]] for h in range(heads)])
    if np.ptp(pairs, axis=0).any() or width % 2:
        return Declined("heads are turned in different pairs")
    partner = pairs[0]
    if ((partner < 0) & (others[0] >= 0)).any():
        return Declined("a column is turned with one of another head")
    free = [at for at in range(width) if partner[at] < 0]
    known = [(at, int(partner[at])) for at in range(width) if partner[at] >= 0]
    if any(partner[to] not in (at, -1) for at, to in known) or len(free) % 2:
        return Declined("columns are not turned in pairs")
    firsts = [min(at, to) for at, to in known if at < to or partner[to] < 0]
    seconds = [max(at, to) for at, to in known if at < to or partner[to] < 0]
    half = len(free) // 2
    order = np.asarray([*firsts, *free[:half], *seconds, *free[half:]])
    if not np.array_equal(np.sort(order), np.arange(width)):
        return Declined("columns are not turned in pairs")
    scale = float(np.sqrt(np.square(cos) + np.square(sin)).mean())
    return _Turned(source, columns[:, order], cos[:, order] / scale, sin[:, order] / scale, scale)


def _made(op: Any, turned: _Turned) -> ir.Value:
    """Rotary (tokens, heads * width) of the source with its columns in order."""
    heads, width = turned.columns.shape
    ordered = _ordered(op, turned.source, turned.columns.reshape(-1), width, turned.scale)
    return rotary(op, ordered, turned.cos, turned.sin, heads)


def _ordered(op: Any, source: ir.Value, order: Indices, width: int, scale: float) -> ir.Value:
    """The columns of a Linear, or of a normalization by head of one, in another order, times the scale."""
    node = producer_of(source)
    if is_composite(node, LINEAR):
        x, weight, bias = linear_parts(node)
        return linear(op, x, weight[:, order] * scale, None if bias is None else bias[order] * scale)
    gamma, beta = (required(constant_of(value), node) for value in node.inputs[1:])
    inner, heads = _ordered(op, required(node.inputs[0], node), order, width, 1.0), integer(node, "heads")
    within = order[:width] % width
    return head_norm(op, inner, gamma[within] * scale, beta[within] * scale, heads, number(node, "epsilon"))


def _within(turned: _Turned) -> Indices:
    """The columns of each head, counted from the first of that head."""
    within: Indices = turned.columns - turned.columns.min(axis=1, keepdims=True)
    return within


def _split(op: Any, turned: _Turned) -> ir.Value:
    """Rotary of the source, as (1, heads, tokens, width)."""
    heads, width = turned.columns.shape
    made = _made(op, turned)
    return transpose(op, reshape(op, made, (1, len(turned.cos), heads, width)), (0, 2, 1, 3))
