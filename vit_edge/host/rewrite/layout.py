"""What a chain of layout operators does, found by running it on the positions of the elements.

Exporters write the same split into heads in dozens of ways (split or packed projections, unbind, Gather,
batch-second, Squeeze chains). Instead of one pattern for each, the chain is executed in numpy on an array
that holds each element's own flat index; what comes out says exactly which element goes where.
"""

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.composites import SELECT, is_composite, is_op
from vit_edge.host.rewrite.values import constant_of, integer, integers, scalar_of, static_shape

Indices = npt.NDArray[np.int64]

RESHAPING = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")
REORDERING = (*RESHAPING, "Transpose")
SELECTING = ("Gather", "Slice", "Split", "SelectTokens")


@dataclasses.dataclass(frozen=True)
class Trace:
    """Where a value's elements come from: `value = scale * source.flat[index]`."""

    source: ir.Value
    index: Indices  # int64, shape of the traced value
    scale: float

    def keeps_order(self) -> bool:
        """Whether the value is the source in the same element order, only shaped differently."""
        return self.index.size == math.prod(static_shape(self.source) or (0,)) and bool(
            np.array_equal(self.index.reshape(-1), np.arange(self.index.size))
        )


def trace(value: ir.Value, *, through: tuple[str, ...], scales: bool = False) -> Trace | None:
    """Follow a value back through the named layout operators (and scalar Mul and Div, if `scales`).

    Returns None where the source has no static shape or a node on the way is not static.
    """
    steps: list[tuple[ir.Node, int]] = []
    scale = 1.0
    current = value
    while (node := current.producer()) is not None:
        factor = _scalar_factor(node) if scales else None
        if factor is not None:
            scale *= factor[1]
            current = factor[0]
        elif _is_any(node, through) and node.inputs[0] is not None:
            output = next(i for i, out in enumerate(node.outputs) if out is current)
            steps.append((node, output))
            current = node.inputs[0]
        else:
            break
    shape = static_shape(current)
    if shape is None:
        return None
    index: Indices | None = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    for node, output in reversed(steps):
        index = None if index is None else moved(node, index, output)
    return None if index is None else Trace(current, index, scale)


def _is_any(node: ir.Node, kinds: tuple[str, ...]) -> bool:
    return any(is_op(node, kind) or is_composite(node, kind) for kind in kinds)


def _scalar_factor(node: ir.Node) -> tuple[ir.Value, float] | None:
    """(x, factor) where the node multiplies x by a scalar constant."""
    if len(node.inputs) != 2 or node.inputs[0] is None or node.inputs[1] is None:
        return None
    left, right = node.inputs[0], node.inputs[1]
    if is_op(node, "Mul"):
        for x, other in ((left, right), (right, left)):
            factor = scalar_of(other)
            if factor is not None and _keeps_shape(node, x):
                return x, factor
    if is_op(node, "Div"):
        divisor = scalar_of(right)
        if divisor and _keeps_shape(node, left):
            return left, 1.0 / divisor
    return None


def _keeps_shape(node: ir.Node, x: ir.Value) -> bool:
    return static_shape(x) is not None and static_shape(x) == static_shape(node.outputs[0])


def moved(node: ir.Node, index: Array, output: int) -> Array | None:
    """What one of the operators above makes of an array: of positions, or of what belongs to them."""
    if is_op(node, "Transpose"):
        return index.transpose(integers(node, "perm", tuple(reversed(range(index.ndim)))))
    if is_composite(node, SELECT):
        return index[integer(node, "start") : integer(node, "stop")]
    if _is_any(node, RESHAPING):
        shape = static_shape(node.outputs[0])
        return None if shape is None or math.prod(shape) != index.size else index.reshape(shape)
    if is_op(node, "Gather"):
        chosen = constant_of(node.inputs[1])
        return None if chosen is None else np.take(index, chosen, axis=integer(node, "axis"))
    if is_op(node, "Slice"):
        return _sliced(node, index)
    return _split(node, index, output)


def _sliced(node: ir.Node, index: Array) -> Array | None:
    arrays = [array for value in node.inputs[1:] if (array := constant_of(value)) is not None]
    if len(arrays) < len(node.inputs) - 1:
        return None
    starts, ends = arrays[:2]
    axes = arrays[2] if len(arrays) > 2 else np.arange(len(starts))
    steps = arrays[3] if len(arrays) > 3 else np.ones(len(starts), np.int64)
    slices = [slice(None)] * index.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            return None
        slices[int(axis)] = slice(int(start), int(end), int(step))
    return index[tuple(slices)]


def _split(node: ir.Node, index: Array, output: int) -> Array | None:
    axis = integer(node, "axis")
    shapes = [static_shape(out) for out in node.outputs]
    if any(shape is None for shape in shapes):
        return None
    sizes = [shape[axis] for shape in shapes if shape is not None]
    return np.split(index, np.cumsum(sizes)[:-1], axis=axis)[output]
