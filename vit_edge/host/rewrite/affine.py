"""Arithmetic on an image, found by running it: layout operators, and constants that scale and shift channels.

Exporters write `(x / 255 - mean) / std` in many ways, before or behind a Transpose, with scalars or one
number per channel. The chain is executed in numpy on the positions of the elements, on zeros and on ones.
"""

import dataclasses
import math

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.layout import REORDERING
from vit_edge.host.rewrite.values import constant_of, integers, static_shape

_ARITHMETIC = ("Add", "Sub", "Mul", "Div")
_NOTHING = ("Identity", "Cast", "Dropout")
_MOST_ELEMENTS = 3 * 1536 * 1536  # of an image that is worth three arrays of this size


@dataclasses.dataclass(frozen=True, eq=False)
class ChannelAffine:
    """`scale * image + shift` per channel; the elements stay where they are."""

    image: ir.Value  # (1, C, H, W)
    scale: Array  # float64 (C,)
    shift: Array

    @property
    def changes(self) -> bool:
        """Whether it does anything."""
        return bool((self.scale != 1).any() or (self.shift != 0).any())


def affine_of(value: ir.Value | None) -> ChannelAffine | None:
    """What was done to the image that `value` (1, C, H, W) is made of; None where it is something else."""
    steps: list[tuple[ir.Node, int]] = []
    current = value
    while current is not None and (node := current.producer()) is not None:
        position = image_operand(node)
        if position is None:
            break
        steps.append((node, position))
        current = node.inputs[position]
    shape = static_shape(current)
    fits = shape is not None and len(shape) == 4 and shape[0] == 1 and math.prod(shape) <= _MOST_ELEMENTS
    if current is None or shape is None or not fits or static_shape(value) != shape:
        return None
    places = np.arange(math.prod(shape), dtype=np.int32).reshape(shape)
    zeros, ones = np.zeros(shape), np.ones(shape)
    for node, position in reversed(steps):
        if not is_op(node, "Transpose") and places.size != math.prod(static_shape(node.outputs[0]) or ()):
            return None  # a constant made it larger
        places = _laid_out(node, places)
        zeros, ones = (_applied(node, position, each) for each in (zeros, ones))
    if not np.array_equal(places.reshape(-1), np.arange(places.size)):
        return None
    per_channel = [each.reshape(shape[1], -1) for each in (ones - zeros, zeros)]
    if any(np.ptp(each, axis=1).any() for each in per_channel):
        return None  # another number for each pixel
    return ChannelAffine(current, per_channel[0][:, 0], per_channel[1][:, 0])


def image_operand(node: ir.Node) -> int | None:
    """Which input of a node is the image, where the node belongs to such a chain."""
    if any(is_op(node, kind) for kind in (*REORDERING, *_NOTHING)):
        return 0
    if not any(is_op(node, kind) for kind in _ARITHMETIC):
        return None
    constant = [constant_of(operand) is not None for operand in node.inputs]
    if constant == [False, True]:
        return 0
    return 1 if constant == [True, False] and not is_op(node, "Div") else None


def _laid_out(node: ir.Node, array: Array) -> Array:
    if is_op(node, "Transpose"):
        return array.transpose(integers(node, "perm", tuple(reversed(range(array.ndim)))))
    return array.reshape(static_shape(node.outputs[0]) or ())


def _applied(node: ir.Node, position: int, array: Array) -> Array:
    if not any(is_op(node, kind) for kind in _ARITHMETIC):
        return _laid_out(node, array)
    other = np.asarray(constant_of(node.inputs[1 - position]), np.float64)
    left, right = (array, other) if position == 0 else (other, array)
    operations = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
    made: Array = operations[node.op_type](left, right)
    return made
