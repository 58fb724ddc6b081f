"""Choosing the folds: how strongly to even out the channels of each activation, none being a choice too.

Every candidate is scored on the sampled rows by the error in the output of the layers concerned, with weights
and activations rounded as they will be. Evening out fully is not always best: what the activation gains, the
weight's rows lose.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array, Float32, Float64
from vit_edge.host.affine import Affine
from vit_edge.host.quantize import folds
from vit_edge.host.quantize.cores import shared_cores
from vit_edge.host.quantize.tally import Activation
from vit_edge.host.quantize.weights import column_scales, nearest
from vit_edge.host.rewrite.composites import ATTENTION, RMS_NORM, composites, is_composite, is_norm
from vit_edge.host.rewrite.merging import KeyFrame
from vit_edge.host.rewrite.values import integer, linear_parts
from vit_edge.manifest import Fold

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
SCORED_ROWS = 512


class Candidate(NamedTuple):
    """One way to fold an activation: (x - shift) / scale in its place."""

    strength: float
    shifted: bool
    scale: Float64
    shift: Float64


Best = Callable[[Callable[[Candidate], float], Iterable[Candidate]], Candidate]


@dataclasses.dataclass(frozen=True)
class Glimpse:
    """What candidates are scored on: the extremes of an activation, and some of its rows."""

    low: Float64  # (channels,)
    high: Float64  # (channels,)
    rows: Float32  # (at most SCORED_ROWS, channels)

    @classmethod
    def of(cls, activation: Activation) -> "Glimpse":
        """Rows spread over those that were sampled."""
        stride = max(1, len(activation.sample) // SCORED_ROWS)
        return cls(activation.low, activation.high, activation.sample[::stride][:SCORED_ROWS])

    def folded(self, scale: Float64, shift: Float64) -> "Glimpse":
        """The same of (x - shift) / scale, both (channels,)."""
        low, high, rows = ((values - shift) / scale for values in (self.low, self.high, self.rows))
        return Glimpse(low, high, rows.astype(np.float32))


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
    frames: dict[str, KeyFrame] = {}
    with shared_cores() as pool:

        def best(noise: Callable[[Candidate], float], candidates: Iterable[Candidate]) -> Candidate:
            tried = list(candidates)
            heard = list(pool.map(noise, tried))
            return tried[heard.index(min(heard))]

        chosen = [_balance_norm(graph, node, seen, best) for node in graph if is_norm(node)]
        for attention in composites(graph, ATTENTION):
            chosen.append(_balance_values(graph, attention, seen, best))
            keys = _balance_keys(graph, attention, seen, best)
            if keys is not None:
                chosen.append(keys[0])
                frames[str(attention.name)] = keys[1]
    return Balanced([fold for fold in chosen if fold is not None], frames)


def _candidates(low: Float64, high: Float64) -> Iterator[Candidate]:
    """(strength, shifted, scale, shift): channel ranges raised to a power around their geometric mean."""
    for shifted in (True, False):
        shift = (low + high) / 2 if shifted else np.zeros_like(low)
        reach = np.maximum(np.maximum(np.abs(low - shift), np.abs(high - shift)), 1e-6)
        relative = reach / np.exp(np.log(reach).mean())
        for strength in STRENGTHS:
            yield Candidate(strength, shifted, relative**strength, shift)


def _balance_norm(graph: ir.Graph, norm: ir.Node, seen: dict[str, Activation], best: Best) -> Fold | None:
    names = [str(linear.name) for linear in folds.norm_readers(norm)]
    if not names or any(name not in seen for name in names):
        return None
    weights = [linear_parts(linear)[1] for linear in folds.norm_readers(norm)]
    widest = max((seen[name] for name in names), key=lambda activation: activation.rows)
    glimpses = [Glimpse.of(seen[name]) for name in names]

    def noise(candidate: Candidate) -> float:
        _, _, scale, shift = candidate
        pairs = zip(glimpses, weights, strict=True)
        return sum(_linear_noise(own.folded(scale, shift), weight * scale[:, None]) for own, weight in pairs)

    candidates = _candidates(widest.low, widest.high)
    if is_composite(norm, RMS_NORM):  # which has no bias that a shift could go into
        candidates = (candidate for candidate in candidates if not candidate.shifted)
    strength, shifted, scale, shift = best(noise, candidates)
    folds.fold_norm(graph, norm, scale, shift)
    for name in names:
        seen[name] = seen[name].folded(scale, shift)
    return Fold(str(norm.name), strength, shifted)


def _balance_values(
    graph: ir.Graph, attention: ir.Node, seen: dict[str, Activation], best: Best
) -> Fold | None:
    values, projection = folds.operand_columns(attention, 2), folds.projection_of(attention)
    name = str(attention.name)
    if values is None or projection is None:
        return None
    made, mixed, weight = seen[f"{name}.v"], seen[str(projection.name)], linear_parts(projection)[1]
    values_seen, mixed_seen = Glimpse.of(made), Glimpse.of(mixed)

    def noise(candidate: Candidate) -> float:
        _, _, scale, shift = candidate
        scaled = weight * scale[:, None]
        inner = _signed_error(values_seen.folded(scale, shift)) @ scaled
        return _linear_noise(mixed_seen.folded(scale, shift), scaled) + float(np.square(inner).sum())

    strength, shifted, scale, shift = best(noise, _candidates(made.low, made.high))
    folds.fold_values(graph, values, projection, scale, shift)
    seen[f"{name}.v"] = made.folded(scale, shift)
    seen[str(projection.name)] = mixed.folded(scale, shift)
    return Fold(f"{name}.v", strength, shifted)


def _balance_keys(
    graph: ir.Graph, attention: ir.Node, seen: dict[str, Activation], best: Best
) -> tuple[Fold, KeyFrame] | None:
    queries, keys = folds.operand_columns(attention, 0), folds.operand_columns(attention, 1)
    name, heads = str(attention.name), integer(attention, "heads")
    if queries is None or keys is None:
        return None
    q, k = seen[f"{name}.q"], seen[f"{name}.k"]
    none = np.zeros_like(q.low)
    turned = queries.turned or keys.turned
    reach_q = _reach(q, none, heads if turned else 0)
    q_seen, k_seen = Glimpse.of(q), Glimpse.of(k)

    def noise(candidate: Candidate) -> float:
        _, _, scale, shift = candidate
        return _score_noise(q_seen.folded(1.0 / scale, none), k_seen.folded(scale, shift), heads)

    def candidates() -> Iterator[Candidate]:
        for _, shifted, _, shift in (c for c in _candidates(k.low, k.high) if c.strength == 0.0):
            if shifted and turned:
                continue
            reach_k = _reach(k, shift, heads if turned else 0)
            yield Candidate(0.0, shifted, np.ones_like(reach_k), shift)
            for strength in STRENGTHS:
                scale = reach_k**strength / reach_q ** (1.0 - strength)
                yield Candidate(strength, shifted, scale / np.exp(np.log(scale).mean()), shift)

    strength, shifted, scale, shift = best(noise, candidates())
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


def _linear_noise(seen: Glimpse, weight: Array) -> float:
    """Squared error of a linear layer's output on the scored rows, relative to the rows' number."""
    scale = column_scales(weight)
    rounded = (nearest(weight, scale) * scale).astype(np.float32)
    rows = seen.rows
    reach = Affine.of(float(seen.low.min()), float(seen.high.max()))
    error = reach.rounded(rows).astype(np.float32) @ rounded - rows @ weight.astype(np.float32)
    return float(np.square(error).sum()) / len(rows)


def _score_noise(q: Glimpse, k: Glimpse, heads: int) -> float:
    """Squared error of the attention scores of sampled queries against sampled keys."""
    rows_q, rows_k = q.rows[:256], k.rows[:256]
    coded_q = Affine.of(float(q.low.min()), float(q.high.max())).rounded(rows_q).astype(np.float32)
    coded_k = rows_k + _signed_error(k)[:256]
    total = 0.0
    for part in np.split(np.arange(rows_q.shape[1]), heads):
        error = coded_q[:, part] @ coded_k[:, part].T - rows_q[:, part] @ rows_k[:, part].T
        total += float(np.square(error - error.mean(axis=1, keepdims=True)).sum())
    return total


def _signed_error(seen: Glimpse) -> Array:
    """What a symmetric int8 range does to the scored rows."""
    return (signed_range(seen.low, seen.high).rounded(seen.rows) - seen.rows).astype(np.float32)


def signed_range(low: Float64, high: Float64) -> Affine:
    """The symmetric int8 range that holds everything seen, of the extremes (channels,)."""
    return Affine.symmetric(max(float(np.abs(low).max()), float(np.abs(high).max())))
