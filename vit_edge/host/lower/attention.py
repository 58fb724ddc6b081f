"""Lowering of Attention: split into heads, scores, probabilities, mix, join.

Where queries, keys and values are columns of one Linear, one Transpose brings all of them into head order and
the parts are contiguous slices of it.
"""

import dataclasses

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.affine import Affine
from vit_edge.host.lower.graph import GraphWriter
from vit_edge.host.plan import EXPONENTIALS, AttentionPlan
from vit_edge.host.rewrite.values import attention_bias, number
from vit_edge.spec import GraphStyle


@dataclasses.dataclass(frozen=True)
class Heads:
    """The sizes of one attention."""

    heads: int
    width: int  # columns per head
    queries: int  # rows per window
    keys: int
    windows: int = 1  # per image; what is said of images below holds for each window of each image


@dataclasses.dataclass(frozen=True, eq=False)
class Added:
    """What is done to the products of queries and keys."""

    scale: float = 1.0
    bias: Array | None = None
    """((windows,) heads, queries, keys)"""
    of_keys: ir.Value | None = None
    """(batch, 1, 1, keys): the same for each query and head."""


def added_in(node: ir.Node) -> Added:
    """What an Attention composite does to the products of queries and keys."""
    return Added(number(node, "scale"), attention_bias(node))


@dataclasses.dataclass(frozen=True)
class Weights:
    """What values are weighed with, (batch, heads, queries, keys)."""

    parts: ir.Value
    total: ir.Value | None = None
    """That they are divided by, (batch, heads, queries, 1); None where they are probabilities already."""


def split_heads(
    w: GraphWriter, x: ir.Value, rows: int, heads: Heads, name: str, *, transposed: bool = False
) -> ir.Value:
    """(batch * rows, heads * width) -> (batch, heads, rows, width), or its last two axes exchanged."""
    if rows == 1:  # nothing to reorder
        shape = (-1, heads.heads, heads.width, 1) if transposed else (-1, heads.heads, 1, heads.width)
        return w.reshape(x, shape, f"{name}_heads")
    apart = w.reshape(x, (-1, rows, heads.heads, heads.width), f"{name}_rows")
    return w.transpose(apart, (0, 2, 3, 1) if transposed else (0, 2, 1, 3), f"{name}_heads")


def split_packed(w: GraphWriter, packed: ir.Value, parts: int, heads: Heads, name: str) -> list[ir.Value]:
    """(batch * rows, parts * heads * width) -> parts of (batch, heads, rows, width)."""
    apart = w.reshape(packed, (-1, heads.keys, parts * heads.heads, heads.width), f"{name}.rows")
    ordered = w.transpose(apart, (0, 2, 1, 3), f"{name}.heads")
    sizes = w.shared(np.asarray([heads.heads] * parts, np.int64), "sizes")
    return w.ops("Split", [ordered, sizes], f"{name}.parts", {"axis": 1}, parts)


def turned(w: GraphWriter, x: ir.Value, cos: Array, sin: Array, name: str) -> ir.Value:
    """`x` (batch, heads, rows, width) times cos, plus its exchanged halves times sin, both (rows, width)."""
    half = cos.shape[1] // 2
    sizes = w.shared(np.asarray([half, half], np.int64), "sizes")
    first, second = w.ops("Split", [x, sizes], f"{name}.halves", {"axis": 3}, 2)
    exchanged = w.op("Concat", [second, first], f"{name}.exchanged", {"axis": 3})
    kept = w.op("Mul", [x, w.shared(cos, "cos")], f"{name}.kept")
    return w.op("Add", [kept, w.op("Mul", [exchanged, w.shared(sin, "sin")], f"{name}.moved")], name)


def normed(w: GraphWriter, x: ir.Value, scale: Array, bias: Array, epsilon: float, name: str) -> ir.Value:
    """LayerNormalization of `x` (batch, heads, rows, width) over the width; scale and bias (width,)."""
    inputs = [x, w.constant(scale, f"{name}.scale"), w.constant(bias, f"{name}.bias")]
    return w.op("LayerNormalization", inputs, name, {"axis": -1, "epsilon": epsilon})


def of_length(w: GraphWriter, x: ir.Value, factor: Array, name: str) -> ir.Value:
    """`x` (batch, heads, rows, width) divided by its length over the width, times the factor of each head."""
    one = w.op("LpNormalization", [x], f"{name}.one", {"axis": -1, "p": 2})
    if (factor == 1).all():
        return one
    return w.op("Mul", [one, w.constant(factor.reshape(-1, 1, 1), f"{name}.factor")], name)


def float_core(
    w: GraphWriter, q: ir.Value, k: ir.Value, v: ir.Value, added: Added, name: str
) -> tuple[ir.Value, Weights]:
    """(softmax(q k^T * scale + bias) v, the probabilities); all (batch, heads, rows, width or keys)."""
    keys = w.transpose(k, (0, 1, 3, 2), f"{name}.keys")
    scores = _scores(w, w.op("MatMul", [q, keys], f"{name}.scores"), added, name)
    probabilities = w.op("Softmax", [scores], f"{name}.probabilities", {"axis": -1})
    return w.op("MatMul", [probabilities, v], f"{name}.mix"), Weights(probabilities)


def int8_core(
    w: GraphWriter, q: ir.Value, k: ir.Value, v: ir.Value, plan: AttentionPlan, added: Added, name: str
) -> tuple[ir.Value, Weights]:
    """The same with integer products, and what the values are weighed with.

    With one range per row the division by the row sum comes last: exp(score - row maximum) is in [0, 1] and
    reaches 1 in every row, so 1/255 resolves every row alike, whereas probabilities spread over many tokens
    would fall between the first few steps.
    """
    queries, keys = _int8_operands(w, q, k, plan, name)
    values = w.fake(v, Affine(plan.value_scale, 0, np.int8), f"{name}.values")
    scores = _scores(w, w.op("MatMul", [queries, keys], f"{name}.scores"), added, name)
    if plan.probability_scale is not None:
        probabilities = w.op("Softmax", [scores], f"{name}.probabilities", {"axis": -1})
        coded = w.activation(probabilities, Affine(plan.probability_scale), f"{name}.probabilities")
        return w.op("MatMul", [coded, values], f"{name}.mix"), Weights(coded)
    axes = w.shared(np.asarray([-1], np.int64), "axes")
    largest = w.op("ReduceMax", [scores, axes], f"{name}.row_max", {"keepdims": 1})
    weights = w.op("Exp", [w.op("Sub", [scores, largest], f"{name}.shifted")], f"{name}.exp")
    total = w.op("ReduceSum", [weights, axes], f"{name}.row_sum", {"keepdims": 1})
    coded = w.activation(weights, EXPONENTIALS, f"{name}.exp")
    mixed = w.op("MatMul", [coded, values], f"{name}.weighted")
    return w.op("Div", [mixed, total], f"{name}.mix"), Weights(coded, total)


def _int8_operands(
    w: GraphWriter, q: ir.Value, k: ir.Value, plan: AttentionPlan, name: str
) -> tuple[ir.Value, ir.Value]:
    """Queries, and keys with their last two axes exchanged, after their round trips."""
    reach = Affine(plan.key_scale, 0, np.int8)
    if w.style is GraphStyle.COMPILER:
        queries = w.fake(q, plan.queries.centred(), f"{name}.queries")
        keys = w.fake(k, reach, f"{name}.keys")
        return queries, w.transpose(keys, (0, 1, 3, 2), f"{name}.keys")
    queries = w.activation(q, plan.queries, f"{name}.queries")
    stored = w.quantized(k, reach, f"{name}.keys")
    turned = w.transpose(stored, (0, 1, 3, 2), f"{name}.keys")
    return queries, w.dequantized(turned, reach, f"{name}.keys")


def _scores(w: GraphWriter, product: ir.Value, added: Added, name: str) -> ir.Value:
    """The product times the attention scale, which folding has usually made 1, plus the bias."""
    scores = product
    if added.scale != 1.0:
        factor = w.shared(np.asarray(added.scale, np.float32), "factor")
        scores = w.op("Mul", [scores, factor], f"{name}.scaled")
    if added.of_keys is not None:
        scores = w.op("Add", [scores, added.of_keys], f"{name}.sized")
    if added.bias is None:
        return scores
    bias = w.constant(added.bias[None], f"{name}.bias")
    if added.bias.ndim == 3:
        return w.op("Add", [scores, bias], f"{name}.biased")
    by_window = w.reshape(scores, (-1, *added.bias.shape), f"{name}.windows")
    biased = w.op("Add", [by_window, bias], f"{name}.biased")
    return w.reshape(biased, (-1, *added.bias.shape[1:]), f"{name}.scores_biased")


def join_heads(w: GraphWriter, x: ir.Value, heads: Heads, name: str) -> ir.Value:
    """(batch, heads, rows, width) -> (batch * rows, heads * width)."""
    if heads.queries == 1:
        return w.reshape(x, (-1, heads.heads * heads.width), name)
    rows = w.transpose(x, (0, 2, 1, 3), f"{name}.rows")
    return w.reshape(rows, (-1, heads.heads * heads.width), name)
