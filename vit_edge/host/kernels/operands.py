"""Where the queries, keys and values of an attention lie before they are split into heads."""

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.values import constant_of, integer, integers, static_shape


class Operand(NamedTuple):
    """Columns of a matrix (images * rows, …), heads side by side."""

    matrix: ir.Value
    offset: int
    rows: int  # of an image
    heads: int
    width: int


def operand(value: ir.Value | None) -> Operand | None:
    """What became (batch, heads, rows, width) by a split into heads alone; None where more was done."""
    if value is None:
        return None
    node = value.producer()
    if is_op(node, "Split") and node is not None:
        return _part(node, value)
    if is_op(node, "Transpose") and node is not None and integers(node, "perm") == (0, 2, 1, 3):
        return _whole(node.inputs[0], rows_first=True)
    return _whole(value, rows_first=False)


def _whole(value: ir.Value | None, *, rows_first: bool) -> Operand | None:
    """A Reshape of (batch * rows, heads * width) to (batch, rows, heads, width); heads first of one row."""
    if value is None or not is_op(value, "Reshape"):
        return None
    node, shape = value.producer(), static_shape(value)
    matrix = None if node is None else node.inputs[0]
    flat = static_shape(matrix)
    if matrix is None or shape is None or flat is None or len(shape) != 4 or len(flat) != 2:
        return None
    rows, heads = (shape[1], shape[2]) if rows_first else (shape[2], shape[1])
    if (not rows_first and rows != 1) or flat[1] != heads * shape[3] or flat[0] != shape[0] * rows:
        return None
    return Operand(matrix, 0, rows, heads, shape[3])


def _part(node: ir.Node, value: ir.Value) -> Operand | None:
    """One of equal parts of the heads."""
    sizes = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    if sizes is None or integer(node, "axis") != 1 or len(np.unique(sizes)) != 1:
        return None
    packed, heads = operand(node.inputs[0]), int(sizes[0])
    if packed is None or packed.heads != heads * len(sizes):
        return None
    place = list(node.outputs).index(value)
    return packed._replace(offset=place * heads * packed.width, heads=heads)
