"""A numpy reference of the composite operators, written from their definition, not from lowering."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from vit_edge.arrays import Array


class Embed(OpRun):
    op_domain = "vit_edge"

    def _run(self, image: Array, weight: Array, table: Array, patch: list[int], prefix: int) -> tuple[Array]:
        _, _, height, width = image.shape
        patches = [
            image[0, :, top : top + patch[0], left : left + patch[1]].reshape(-1)
            for top in range(0, height, patch[0])
            for left in range(0, width, patch[1])
        ]
        return (np.pad(np.stack(patches) @ weight, ((prefix, 0), (0, 0))) + table,)


class Linear(OpRun):
    op_domain = "vit_edge"

    def _run(self, x: Array, weight: Array, bias: Array | None = None) -> tuple[Array]:
        return (np.einsum("ri,io->ro", x, weight) + (0 if bias is None else bias),)


class Attention(OpRun):
    op_domain = "vit_edge"

    def _run(
        self,
        q: Array,
        k: Array,
        v: Array,
        bias: Array | None = None,
        sizes: Array | None = None,
        frame: Array | None = None,
        *,
        heads: int,
        scale: float,
        windows: int | None = None,
        **_: Any,
    ) -> tuple[Array, ...]:
        # The evaluator passes the attributes of ONNX's own Attention too, being of the same name.
        count = windows or 1
        added = np.zeros((heads, 1, 1), np.float32) if bias is None else bias
        added = added if sizes is None else added + np.log(sizes[:, 0])
        biases = [added] * count if added.ndim == 3 else list(added)
        groups = zip(*(np.split(x, count) for x in (q, k, v)), biases, strict=True)
        made = [_attention((q, k, v), own, heads, scale) for q, k, v, own in groups]
        unfolded = k if frame is None else k * frame[0] + frame[1]
        alike = np.mean(np.split(unfolded, heads, axis=1), axis=0)
        return np.concatenate(made), alike.astype(np.float32)


def _attention(operands: Sequence[Array], bias: Array, heads: int, scale: float) -> Array:
    mixed = []
    for *parts, added in zip(*(np.split(x, heads, axis=1) for x in operands), bias, strict=True):
        weights = np.exp(parts[0] @ parts[1].T * np.float32(scale) + added)
        mixed.append(weights / weights.sum(axis=1, keepdims=True) @ parts[2])
    return np.concatenate(mixed, axis=1)


class SelectTokens(OpRun):
    op_domain = "vit_edge"

    def _run(self, x: Array, start: int, stop: int) -> tuple[Array]:
        return (x[start:stop],)


class MeanTokens(OpRun):
    op_domain = "vit_edge"

    def _run(self, x: Array, sizes: Array | None = None) -> tuple[Array]:
        each = np.ones((len(x), 1), np.float32) if sizes is None else sizes
        return ((x * each).sum(axis=0, keepdims=True) / each.sum(),)


class MergeTokens(OpRun):
    op_domain = "vit_edge"

    def _run(
        self, x: Array, alike: Array, sizes: Array | None = None, *, count: int, prefix: int
    ) -> tuple[Array, Array]:
        each = np.ones((len(x), 1), np.float32) if sizes is None else sizes
        return merge_tokens(x, alike, each, count, prefix)


def merge_tokens(x: Array, alike: Array, sizes: Array, count: int, prefix: int) -> tuple[Array, Array]:
    """One step of ToMe's bipartite soft matching, pair by pair, as section 3 of the paper says it.

    Args:
        x: (tokens, dim).
        alike: (tokens, any), compared by cosine.
        sizes: (tokens, 1).
        count: pairs that merge.
        prefix: tokens that do not.

    Returns:
        The prefix, the tokens of even places that are left, and those of odd places; their sizes (n, 1).
    """
    unit = alike / np.sqrt(np.square(alike).sum(axis=1, keepdims=True))
    even = [place for place in range(prefix, len(x)) if place % 2 == 0]
    odd = [place for place in range(prefix, len(x)) if place % 2 == 1]
    partner = {place: max(odd, key=lambda other: float(unit[place] @ unit[other])) for place in even}
    edges = sorted(even, key=lambda place: -float(unit[place] @ unit[partner[place]]))
    total, weight = x * sizes, sizes.copy()
    for place in edges[:count]:
        total[partner[place]] += total[place]
        weight[partner[place]] += weight[place]
    left = [*range(prefix), *(place for place in even if place not in edges[:count]), *odd]
    return (total / weight)[left], weight[left]


class Rotary(OpRun):
    op_domain = "vit_edge"

    def _run(self, x: Array, cos: Array, sin: Array, heads: int) -> tuple[Array]:
        turned = []
        for part in np.split(x, heads, axis=1):
            exchanged = np.concatenate(np.split(part, 2, axis=1)[::-1], axis=1)
            turned.append(part * cos + exchanged * sin)
        return (np.concatenate(turned, axis=1),)


class HeadNorm(OpRun):
    op_domain = "vit_edge"

    def _run(self, x: Array, scale: Array, bias: Array, heads: int, epsilon: float) -> tuple[Array]:
        normed = []
        for part in np.split(x, heads, axis=1):
            centred = part - part.mean(axis=1, keepdims=True)
            spread = np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + np.float32(epsilon))
            normed.append(centred / spread * scale + bias)
        return (np.concatenate(normed, axis=1),)


class HeadUnit(OpRun):
    op_domain = "vit_edge"

    def _run(self, x: Array, factor: Array, heads: int) -> tuple[Array]:
        parts = np.split(x, heads, axis=1)
        made = [p / np.linalg.norm(p, axis=1, keepdims=True) * f for p, f in zip(parts, factor, strict=True)]
        return (np.concatenate(made, axis=1).astype(np.float32),)


class RmsNorm(OpRun):
    op_domain = "vit_edge"

    def _run(self, x: Array, scale: Array, epsilon: float) -> tuple[Array]:
        return (x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + np.float32(epsilon)) * scale,)


class Swish(OpRun):
    op_domain = "vit_edge"

    def _run(self, x: Array, alpha: float) -> tuple[Array]:
        return (x / (1 + np.exp(-np.float32(alpha) * x)),)


class PermuteTokens(OpRun):
    op_domain = "vit_edge"

    def _run(self, x: Array, order: Array) -> tuple[Array]:
        return (x[order],)


COMPOSITES = [
    Embed,
    Linear,
    Attention,
    SelectTokens,
    MeanTokens,
    Rotary,
    HeadNorm,
    HeadUnit,
    RmsNorm,
    Swish,
    PermuteTokens,
    MergeTokens,
]


def evaluate(model: onnx.ModelProto | ir.Model, feeds: Mapping[str, Array]) -> list[Array]:
    """Every output of a graph of standard operators and composites."""
    proto = ir.to_proto(model) if isinstance(model, ir.Model) else model
    evaluator = ReferenceEvaluator(proto, new_ops=COMPOSITES)
    return [np.asarray(output) for output in evaluator.run(None, dict(feeds))]


def random_feeds(model: onnx.ModelProto, seed: int = 0) -> dict[str, Array]:
    """Normal float32 values for every input, shapes as the graph declares them."""
    generator = np.random.default_rng(seed)
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in model.graph.input
    }
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
