"""ReduceMean over the tokens becomes MeanTokens (mean pooling)."""

import math
from typing import Any, ClassVar, NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.host.rewrite.composites import DOMAIN, is_op
from vit_edge.host.rewrite.layout import REORDERING, trace
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import constant_of, flatten, reshape, static_shape, typed


class _Mean(NamedTuple):
    x: ir.Value  # (…, tokens, dim)
    shape: tuple[int, ...]


class RaiseMean(NodeRule[_Mean]):
    """ReduceMean(x (1, tokens, dim), axes of the tokens) -> Reshape(MeanTokens(Reshape(x)))."""

    ROOTS: ClassVar[tuple[str, ...]] = ("ReduceMean", "GlobalAveragePool")
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,3,2] x) => (float[1,2] y) <int64[1] axes = {1}> { y = ReduceMean<keepdims=0>(x, axes) }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,3,2] x) => (float[1,3] y) <int64[1] axes = {2}> { y = ReduceMean<keepdims=0>(x, axes) }"""

    def find(self, node: ir.Node) -> _Mean | Declined:
        """The rows and the result's shape, where the mean is over all rows of one image."""
        shape, result = static_shape(node.inputs[0]), static_shape(node.outputs[0])
        reduced = _reduced(node, len(shape or ()))
        if shape is None or len(shape) < 2 or reduced is None or result is None:
            return Declined("the shape or the axes are not static")
        kept = [size for axis, size in enumerate(shape[:-1]) if axis not in reduced]
        if len(shape) - 1 not in reduced and math.prod(kept) == 1:
            return _Mean(required(node.inputs[0], node), result)
        turned = _over_tokens(required(node.inputs[0], node), reduced)
        return Declined("the mean is not over the tokens") if turned is None else _Mean(turned, result)

    def replace(self, op: Any, node: ir.Node, found: _Mean) -> ir.Value:
        """Mean of the rows; of a single one, which attention may have made, the row itself."""
        flat = flatten(op, found.x)
        rows, columns = required(static_shape(flat), node)
        if rows == 1:
            return reshape(op, flat, found.shape)
        made = typed(op.MeanTokens(flat, _domain=DOMAIN, _version=1), (1, columns))
        return reshape(op, made, found.shape)


def _reduced(node: ir.Node, rank: int) -> set[int] | None:
    """The axes of the mean: the listed ones, or all behind the channels."""
    if is_op(node, "GlobalAveragePool"):
        return set(range(2, rank))
    axes = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    return None if axes is None or rank == 0 else {int(axis) % rank for axis in axes.reshape(-1)}


def _over_tokens(value: ir.Value, reduced: set[int]) -> ir.Value | None:
    """What was turned on its side, (dim, tokens), before the mean was taken of each column's numbers."""
    found = trace(value, through=REORDERING)
    shape = None if found is None else static_shape(found.source)
    if found is None or shape is None or len(shape) < 2 or any(size != 1 for size in shape[:-2]):
        return None
    kept = [axis for axis in range(found.index.ndim) if axis not in reduced]
    columns = found.index.transpose(*kept, *sorted(reduced)).reshape(-1, math.prod(shape[:-1]))
    expected = np.arange(shape[-1])[:, None] + np.arange(shape[-2]) * shape[-1]
    same = columns.shape == expected.shape and np.array_equal(np.sort(columns, axis=1), expected)
    return found.source if same else None
