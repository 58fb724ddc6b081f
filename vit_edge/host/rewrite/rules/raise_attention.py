"""MatMul, Softmax, MatMul, however the heads were split, becomes Attention on three Linears.

Source: Vaswani et al. 2017; Dosovitskiy et al. 2021, appendix A. Where q, k and v come from is found by
running the layout operators on element positions, so split, packed, interleaved and batch-second projections
are one case: the columns of the projections are put into head order, and the scale is collected wherever it
stands. A constant that is added to the scores is the bias (BEiT, Bao et al. 2022: relative positions); a
query may be a constant, too (attention pooling, Lee et al. 2019; Zhai et al. 2023).
"""

import math
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.composites import LINEAR, is_composite, is_op
from vit_edge.host.rewrite.layout import REORDERING, RESHAPING, SELECTING, Indices, Trace, trace
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import (
    attention,
    constant,
    constant_of,
    flatten,
    integer,
    linear,
    linear_parts,
    reshape,
    static_shape,
    transpose,
)

LARGEST_BIAS = 1e3  # of a learned one; beyond, tokens are hidden from one another


class _Operand(NamedTuple):
    source: ir.Value  # (tokens, any columns)
    columns: Indices  # (heads * head_dim,) the source's column of each of ours
    heads: int
    tokens: int
    windows: int
    constant: Array | None = None  # (tokens, heads * head_dim) where it does not depend on the image


class _Scores(NamedTuple):
    product: ir.Node  # of queries and keys
    scale: float
    added: tuple[Array, ...]  # each in the order of (windows, heads, queries, keys)


class _Heads(NamedTuple):
    q: _Operand
    k: _Operand
    v: _Operand
    scale: float
    bias: Array | None


class RaiseAttention(NodeRule[_Heads]):
    """MatMul(Softmax(MatMul(q, k^T) * scale), v) -> Attention, followed by the layout it had."""

    ROOTS = ("MatMul",)
    FIRES = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,4] x) => (float[1,2,3,2] y)
        <float[4,4] wq = {1.,2.,3.,4., 4.,3.,2.,1., 0.,1.,0.,1., 1.,0.,1.,0.},
         float[4,4] wk = {1.,0.,3.,0., 4.,0.,2.,0., 0.,1.,0.,1., 1.,1.,1.,0.},
         float[4,4] wv = {1.,2.,0.,4., 4.,0.,2.,1., 0.,1.,3.,1., 1.,0.,1.,2.},
         int64[4] split = {1, 3, 2, 2}, float scale = {0.5},
         float[3,4] q0, float[3,4] k0, float[3,4] v0, float[1,3,2,2] q1, float[1,3,2,2] k1, float[1,3,2,2] v1,
         float[1,2,3,2] q, float[1,2,2,3] k, float[1,2,3,2] v,
         float[1,2,3,3] s, float[1,2,3,3] t, float[1,2,3,3] p> {
            q0 = vit_edge.Linear(x, wq)
            k0 = vit_edge.Linear(x, wk)
            v0 = vit_edge.Linear(x, wv)
            q1 = Reshape(q0, split)
            k1 = Reshape(k0, split)
            v1 = Reshape(v0, split)
            q = Transpose<perm=[0, 2, 1, 3]>(q1)
            k = Transpose<perm=[0, 2, 3, 1]>(k1)
            v = Transpose<perm=[0, 2, 1, 3]>(v1)
            s = MatMul(q, k)
            t = Mul(s, scale)
            p = Softmax<axis=-1>(t)
            y = MatMul(p, v)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,2,3,2] q, float[1,2,2,3] k, float[1,2,3,2] v, float[1,1,3,3] mask) => (float[1,2,3,2] y)
        <float[1,2,3,3] s, float[1,2,3,3] t, float[1,2,3,3] p> {
            s = MatMul(q, k)
            t = Add(s, mask)
            p = Softmax<axis=-1>(t)
            y = MatMul(p, v)
        }"""

    def find(self, node: ir.Node) -> _Heads | Declined:
        """The left operand is a Softmax over the keys, and q, k, v are plain projections."""
        softmax = _softmax(node)
        if softmax is None:
            return Declined("not a product of attention probabilities")
        scores = softmax.inputs[0]
        shape = static_shape(scores)
        if scores is None or shape is None:
            return Declined("the scores have no static shape")
        if integer(softmax, "axis", -1) not in (-1, len(shape) - 1):
            return Declined("Softmax is not over the last axis")
        product = _scores(scores)
        if product is None:
            return Declined(
                f"the scores come from {_maker(scores)}, not from a scaled product of queries and keys"
            )
        inner = product.product.inputs
        return _heads((inner[0], inner[1], node.inputs[1]), product, node)

    def replace(self, op: Any, node: ir.Node, found: _Heads) -> ir.Value:
        """Three Linears in head order, Attention, and the layout (1, heads, tokens, head_dim) behind it."""
        q, k, v, scale, bias = found
        parts = (_projected(op, q), _projected(op, k), _projected(op, v))
        made = attention(op, *parts, heads=q.heads, scale=scale, bias=bias, windows=q.windows)
        width = v.columns.size // v.heads
        split = reshape(op, made, (q.windows, q.tokens // q.windows, v.heads, width))
        split = transpose(op, split, (0, 2, 1, 3))
        return reshape(op, split, required(static_shape(node.outputs[0]), node))


def _heads(
    values: tuple[ir.Value | None, ir.Value | None, ir.Value | None], scores: _Scores, node: ir.Node
) -> _Heads | Declined:
    """q, k and v of the two products, and the scale: of the scores, times those in front of q and k."""
    traces = [
        trace(required(value, node), through=(*REORDERING, *SELECTING), scales=True) for value in values
    ]
    operands = [_operand(found, transposed=i == 1) for i, found in enumerate(traces)]
    for name, operand in zip(("queries", "keys", "values"), operands, strict=True):
        if isinstance(operand, Declined):
            return Declined(f"the {name} {operand.reason}")
    q, k, v = (operand for operand in operands if not isinstance(operand, Declined))
    widths = {operand.columns.size for operand in (q, k, v)}
    if not q.heads == k.heads == v.heads or k.tokens != v.tokens or len(widths) > 1:
        return Declined("queries, keys and values differ in heads, tokens or width")
    if not q.windows == k.windows == v.windows:
        return Declined("queries, keys and values differ in windows")
    scales = [found.scale for found in traces if found is not None]
    if scales[2] != 1.0:
        return Declined("the values are rescaled")
    shape = (q.windows, q.heads, q.tokens // q.windows, k.tokens // q.windows)
    if any(array.size != math.prod(shape) for array in scores.added):
        return Declined(f"what is added to the scores does not fit {shape}")
    bias = _bias_of([array.reshape(shape) for array in scores.added])
    if bias is not None and np.abs(bias).max() > LARGEST_BIAS:
        return Declined(f"what is added to the scores reaches {bias.flat[np.abs(bias).argmax()]:.4g}: a mask")
    return _Heads(q, k, v, scores.scale * scales[0] * scales[1], bias)


def _scores(value: ir.Value) -> _Scores | None:
    """The product behind the scores, through scales and constants that are added (relative positions)."""
    scale, sums = 1.0, list[Array]()
    while True:
        found = _rows_kept(value, scales=True)
        node = None if found is None else found.source.producer()
        if found is None or node is None:
            return None
        scale *= found.scale
        if is_op(node, "MatMul"):
            return _Scores(node, scale, tuple(sums))
        added = _added(node)
        if added is None:
            return None
        value, array = added
        # What is added is scaled by what stands behind it alone.
        sums.append(np.broadcast_to(array, static_shape(value) or ()) * np.float32(scale))


def _added(node: ir.Node) -> tuple[ir.Value, Array] | None:
    """(x, c) of x + c with a constant that does not make it larger."""
    if not is_op(node, "Add"):
        return None
    for x, other in (node.inputs, reversed(node.inputs)):
        array = constant_of(other)
        if array is not None and x is not None and static_shape(x) == static_shape(node.outputs[0]):
            return x, array
    return None


def _bias_of(arrays: list[Array]) -> Array | None:
    """The sum of what is added, (heads, queries, keys); (windows, heads, queries, keys) where they differ."""
    if not arrays:
        return None
    total: Array = np.sum(arrays, axis=0)
    same = bool((total == total[:1]).all())
    return np.ascontiguousarray(total[0] if same else total)


def _softmax(node: ir.Node) -> ir.Node | None:
    """The Softmax that makes the left operand; opset 11 and 12 put it between Reshapes to (rows, keys)."""
    found = None if node.inputs[0] is None else _rows_kept(node.inputs[0], scales=False)
    return found.source.producer() if found is not None and is_op(found.source, "Softmax") else None


def _rows_kept(value: ir.Value, *, scales: bool) -> Trace | None:
    """Follow `value` back through Reshapes that keep its last axis whole."""
    found = trace(value, through=RESHAPING, scales=scales)
    shape = None if found is None else static_shape(found.source)
    return found if found is not None and shape and shape[-1:] == found.index.shape[-1:] else None


def _operand(found: Trace | None, *, transposed: bool) -> _Operand | Declined:
    """Read a (…, heads, tokens, head_dim) layout off the element positions of one operand."""
    shape = None if found is None else static_shape(found.source)
    if found is None or shape is None:
        return Declined("have no static shape")
    whole = found.index
    if whole.ndim < 3:
        return Declined(f"have the shape {whole.shape}, not (heads, tokens, head_dim)")
    index = whole.reshape(-1, *whole.shape[-3:])
    index = np.swapaxes(index, 2, 3) if transposed else index
    windows, heads, rows = index.shape[:3]
    index, tokens = np.swapaxes(index, 0, 1).reshape(heads, windows * rows, -1), windows * rows
    array = constant_of(found.source)
    if array is not None:  # a learned query
        laid = array.reshape(-1)[index].swapaxes(0, 1).reshape(tokens, -1)
        return _Operand(found.source, np.arange(laid.shape[1]), heads, tokens, windows, laid)
    order = _columns(index, shape)
    plain = not isinstance(order, Declined) and np.array_equal(order, np.arange(shape[-1]))
    if not plain and not is_composite(found.source, LINEAR):
        return Declined(f"come from {_maker(found.source)}, not from a linear projection")
    return order if isinstance(order, Declined) else _Operand(found.source, order, heads, tokens, windows)


def _columns(index: Indices, shape: tuple[int, ...]) -> Indices | Declined:
    """The source's column of each of ours, where `index` (heads, tokens, head_dim) puts tokens apart."""
    if index.shape[1] != math.prod(shape[:-1]):
        return Declined("are some of the projected tokens only")
    columns = index % shape[-1]
    if not np.array_equal(
        index // shape[-1], np.broadcast_to(np.arange(index.shape[1])[:, None], index.shape)
    ):
        return Declined("mix tokens")
    if not np.array_equal(columns, np.broadcast_to(columns[:, :1], columns.shape)):
        return Declined("take different columns for different tokens")
    order: Indices = columns[:, 0].reshape(-1)
    return order


def _projected(op: Any, operand: _Operand) -> ir.Value:
    """The operand as (tokens, dim) in head order."""
    if operand.constant is not None:
        return constant(op, operand.constant, "queries")
    node = operand.source.producer()
    if node is None or not is_composite(node, LINEAR):
        return flatten(op, operand.source)
    x, weight, bias = linear_parts(node)
    if np.array_equal(operand.columns, np.arange(weight.shape[1])):
        return operand.source
    return linear(op, x, weight[:, operand.columns], None if bias is None else bias[operand.columns])


def _maker(value: ir.Value) -> str:
    node = value.producer()
    return "a graph input" if node is None else f"{node.op_type} ({node.name})"
