"""Choosing the folds: how strongly to even out the channels of each activation, none being a choice too.

Every candidate is scored on the sampled rows by the error in the output of the layers concerned, with weights
and activations rounded as they will be. Evening out fully is not always best: what the activation gains, the
weight's rows lose.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array, Float64
from vit_edge.host.affine import Affine
from vit_edge.host.quantize import folds
from vit_edge.host.quantize.tally import Activation
from vit_edge.host.quantize.weights import column_scales, nearest
from vit_edge.host.rewrite.composites import ATTENTION, RMS_NORM, composites, is_composite, is_norm
from vit_edge.host.rewrite.merging import KeyFrame
from vit_edge.host.rewrite.values import integer, linear_parts
from vit_edge.manifest import Fold

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
SCORED_ROWS = 512


class Balanced(NamedTuple):
    """What was folded."""

    folds: list[Fold]
    frames: dict[str, KeyFrame]
    """What the keys of each attention were, by its name."""


def balance(graph: ir.Graph, seen: dict[str, Activation]) -> Balanced:
    """Choose and apply every fold, in place; `seen` is brought up to date.

    Args:
        graph: a canonical graph of composites.
        seen: the observed input of each Linear, and the operands `.q`, `.k` and `.v` of each attention.
    """
    chosen = [_balance_norm(graph, node, seen) for node in graph if is_norm(node)]
    frames: dict[str, KeyFrame] = {}
    for attention in composites(graph, ATTENTION):
        chosen.append(_balance_values(graph, attention, seen))
        keys = _balance_keys(graph, attention, seen)
        if keys is not None:
            chosen.append(keys[0])
            frames[str(attention.name)] = keys[1]
    return Balanced([fold for fold in chosen if fold is not None], frames)


def _candidates(low: Float64, high: Float64) -> Iterator[tuple[float, bool, Float64, Float64]]:
    """(strength, shifted, scale, shift): channel ranges raised to a power around their geometric mean."""
    for shifted in (True, False):
        shift = (low + high) / 2 if shifted else np.zeros_like(low)
        reach = np.maximum(np.maximum(np.abs(low - shift), np.abs(high - shift)), 1e-6)
        relative = reach / np.exp(np.log(reach).mean())
        for strength in STRENGTHS:
            yield strength, shifted, relative**strength, shift


def _balance_norm(graph: ir.Graph, norm: ir.Node, seen: dict[str, Activation]) -> Fold | None:
    names = [str(linear.name) for linear in folds.norm_readers(norm)]
    if not names or any(name not in seen for name in names):
        return None
    weights = [linear_parts(linear)[1] for linear in folds.norm_readers(norm)]
    widest = max((seen[name] for name in names), key=lambda activation: activation.rows)

    def noise(candidate: tuple[float, bool, Float64, Float64]) -> float:
        _, _, scale, shift = candidate
        pairs = zip(names, weights, strict=True)
        return sum(
            _linear_noise(seen[name].folded(scale, shift), weight * scale[:, None]) for name, weight in pairs
        )

    candidates = _candidates(widest.low, widest.high)
    if is_composite(norm, RMS_NORM):  # which has no bias that a shift could go into
        candidates = (candidate for candidate in candidates if not candidate[1])
    strength, shifted, scale, shift = min(candidates, key=noise)
    folds.fold_norm(graph, norm, scale, shift)
    for name in names:
        seen[name] = seen[name].folded(scale, shift)
    return Fold(str(norm.name), strength, shifted)


def _balance_values(graph: ir.Graph, attention: ir.Node, seen: dict[str, Activation]) -> Fold | None:
    values, projection = folds.operand_columns(attention, 2), folds.projection_of(attention)
    name = str(attention.name)
    if values is None or projection is None:
        return None
    made, mixed, weight = seen[f"{name}.v"], seen[str(projection.name)], linear_parts(projection)[1]

    def noise(candidate: tuple[float, bool, Float64, Float64]) -> float:
        _, _, scale, shift = candidate
        scaled = weight * scale[:, None]
        inner = _signed_error(made.folded(scale, shift)) @ scaled
        return _linear_noise(mixed.folded(scale, shift), scaled) + float(np.square(inner).sum())

    strength, shifted, scale, shift = min(_candidates(made.low, made.high), key=noise)
    folds.fold_values(graph, values, projection, scale, shift)
    seen[f"{name}.v"] = made.folded(scale, shift)
    seen[str(projection.name)] = mixed.folded(scale, shift)
    return Fold(f"{name}.v", strength, shifted)


def _balance_keys(
    graph: ir.Graph, attention: ir.Node, seen: dict[str, Activation]
) -> tuple[Fold, KeyFrame] | None:
    queries, keys = folds.operand_columns(attention, 0), folds.operand_columns(attention, 1)
    name, heads = str(attention.name), integer(attention, "heads")
    if queries is None or keys is None:
        return None
    q, k = seen[f"{name}.q"], seen[f"{name}.k"]
    none = np.zeros_like(q.low)
    turned = queries.turned or keys.turned
    reach_q = _reach(q, none, heads if turned else 0)

    def noise(candidate: tuple[float, bool, Float64, Float64]) -> float:
        _, _, scale, shift = candidate
        return _score_noise(q.folded(1.0 / scale, none), k.folded(scale, shift), heads)

    def candidates() -> Iterator[tuple[float, bool, Float64, Float64]]:
        for _, shifted, _, shift in (c for c in _candidates(k.low, k.high) if c[0] == 0.0):
            if shifted and turned:
                continue
            reach_k = _reach(k, shift, heads if turned else 0)
            yield 0.0, shifted, np.ones_like(reach_k), shift
            for strength in STRENGTHS:
                scale = reach_k**strength / reach_q ** (1.0 - strength)
                yield strength, shifted, scale / np.exp(np.log(scale).mean()), shift

    strength, shifted, scale, shift = min(candidates(), key=noise)
    folds.fold_keys(graph, queries, keys, scale, shift)
    seen[f"{name}.q"], seen[f"{name}.k"] = q.folded(1.0 / scale, none), k.folded(scale, shift)
    frame = KeyFrame(scale.astype(np.float32), shift.astype(np.float32))
    return Fold(f"{name}.k", strength, shifted), frame


def _reach(activation: Activation, shift: Float64, turned_heads: int) -> Float64:
    """The largest magnitude per channel; of a turned operand that of both halves of each head."""
    reach = np.maximum(np.maximum(np.abs(activation.low - shift), np.abs(activation.high - shift)), 1e-6)
    if turned_heads:
        halves = reach.reshape(turned_heads, 2, -1)
        reach = np.broadcast_to(halves.max(axis=1, keepdims=True), halves.shape).reshape(-1)
    return reach


def _linear_noise(activation: Activation, weight: Array) -> float:
    """Squared error of a linear layer's output on the scored rows, relative to the rows' number."""
    scale = column_scales(weight)
    rounded = (nearest(weight, scale) * scale).astype(np.float32)
    rows = _scored(activation)
    reach = Affine.of(float(activation.low.min()), float(activation.high.max()))
    error = reach.rounded(rows).astype(np.float32) @ rounded - rows @ weight.astype(np.float32)
    return float(np.square(error).sum()) / len(rows)


def _score_noise(q: Activation, k: Activation, heads: int) -> float:
    """Squared error of the attention scores of sampled queries against sampled keys."""
    rows_q, rows_k = _scored(q)[:256], _scored(k)[:256]
    coded_q = Affine.of(float(q.low.min()), float(q.high.max())).rounded(rows_q).astype(np.float32)
    coded_k = rows_k + _signed_error(k)[:256]
    total = 0.0
    for part in np.split(np.arange(rows_q.shape[1]), heads):
        error = coded_q[:, part] @ coded_k[:, part].T - rows_q[:, part] @ rows_k[:, part].T
        total += float(np.square(error - error.mean(axis=1, keepdims=True)).sum())
    return total


def _signed_error(activation: Activation) -> Array:
    """What a symmetric int8 range does to the scored rows."""
    rows = _scored(activation)
    return (signed_range(activation).rounded(rows) - rows).astype(np.float32)


def signed_range(activation: Activation) -> Affine:
    """The symmetric int8 range that holds everything seen."""
    return Affine.symmetric(max(float(np.abs(activation.low).max()), float(np.abs(activation.high).max())))


def _scored(activation: Activation) -> Array:
    stride = max(1, len(activation.sample) // SCORED_ROWS)
    return activation.sample[::stride][:SCORED_ROWS]
