"""Lengths of vectors as exporters write them: the norm itself, and guards against division by zero."""

import onnx_ir as ir

from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.values import constant_of, integer, scalar_of, static_shape

_LEAST = 1e-6  # a guard may be this long


def unguarded(value: ir.Value | None) -> ir.Value | None:
    """A length behind Expand, and Clip, Max or Add with a small number; None where there is no such chain."""
    while value is not None:
        node = value.producer()
        if node is None:
            return None
        if is_op(node, "Expand"):
            value = node.inputs[0]
        elif is_op(node, "Clip") or is_op(node, "Max") or is_op(node, "Add"):
            inner = _guarded(node)
            if inner is None:
                return None
            value = inner
        else:
            return value
    return None


def _guarded(node: ir.Node) -> ir.Value | None:
    """What a guard lets pass, where its other side is a small number."""
    if is_op(node, "Clip"):
        least = scalar_of(node.inputs[1]) if len(node.inputs) > 1 else None
        most = node.inputs[2] if len(node.inputs) > 2 else None
        return node.inputs[0] if most is None and least is not None and 0 <= least <= _LEAST else None
    if len(node.inputs) != 2:
        return None
    for inner, other in (node.inputs, reversed(node.inputs)):
        small = scalar_of(other)
        if small is not None and 0 <= small <= _LEAST:
            return inner
    return None


def normed(length: ir.Value) -> ir.Value | None:
    """X of ReduceL2(x), or of Sqrt(ReduceSum(x * x)) and Sqrt(ReduceSum(x ^ 2)), over the last axis."""
    node = length.producer()
    if node is None:
        return None
    if is_op(node, "ReduceL2"):
        return node.inputs[0] if _of_columns(node) else None
    total = node.inputs[0].producer() if is_op(node, "Sqrt") and node.inputs[0] is not None else None
    if total is None or not is_op(total, "ReduceSum") or not _of_columns(total):
        return None
    square = total.inputs[0].producer() if total.inputs[0] is not None else None
    if square is None:
        return None
    if is_op(square, "Mul"):
        return square.inputs[0] if square.inputs[0] is square.inputs[1] else None
    return square.inputs[0] if is_op(square, "Pow") and scalar_of(square.inputs[1]) == 2.0 else None


def _of_columns(node: ir.Node) -> bool:
    """Whether a reduction is over the columns, which it keeps as one."""
    axes = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    given = node.attributes.get("axes")  # opset 17 and before
    named = list(given.as_ints()) if given is not None else [] if axes is None else axes.reshape(-1).tolist()
    shape = static_shape(node.inputs[0])
    last = [] if shape is None else [len(shape) - 1]
    return named in ([-1], last) and integer(node, "keepdims", 1) == 1
