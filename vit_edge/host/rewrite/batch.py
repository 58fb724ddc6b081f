"""Specialise a graph to one image, also where the exporter baked another batch size into its constants."""

import math
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.errors import ModelError
from vit_edge.host.initializers import stored
from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.constants import fold_constants
from vit_edge.host.rewrite.values import constant_of, integer, integers, static_shape

# Operators whose operands lie along the axes of the result; the weights of a Conv, say, do not.
ALIGNED = ("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Where", "Concat")


def specialise(model: ir.Model, name: str) -> None:
    """Set the batch size of the image input to 1, in place, and forget the shapes inferred for another one.

    A fixed batch of n > 1 stands in Reshape targets and in constants that were expanded to it. The batch is
    followed through the graph as the outermost factor of one axis, and divided out of each.

    Raises:
        ModelError: a fixed batch of more than one is moved in a way that cannot be followed.
    """
    image = model.graph.inputs[0]
    shape = list(image.shape or ())
    fixed = shape[0] if isinstance(shape[0], int) else 1
    if fixed > 1:
        fold_constants(model)
        _divide_out(model, fixed, name)
    image.shape = ir.Shape([1, *shape[1:]])
    for node in model.graph:
        for output in node.outputs:
            output.shape = None


class _Place(NamedTuple):
    """Where the batch stands in a shape: inside which axis, behind how many other elements of that axis."""

    axis: int
    outer: int  # 1 where the batch is the outermost factor of the axis


def _divide_out(model: ir.Model, batch: int, name: str) -> None:
    place_of: dict[ir.Value, _Place] = {model.graph.inputs[0]: _Place(0, 1)}
    for node in model.graph:
        carried = [value for value in node.inputs if value is not None and value in place_of]
        if not carried or is_op(node, "Shape"):
            continue
        place = _place_after(node, carried[0], place_of[carried[0]], batch)
        if place is None or not _holds(static_shape(node.outputs[0]), place, batch):
            raise ModelError(
                f"{name}: the fixed batch of {batch} cannot be followed through "
                f"{node.op_type} ({node.name}); export it with batch 1 or a dynamic batch"
            )
        _shrink_constants(model, node, place.axis, batch)
        for output in node.outputs:
            place_of[output] = place


def _place_after(node: ir.Node, value: ir.Value, place: _Place, batch: int) -> _Place | None:
    """Where the batch stands in the node's output."""
    before, after = static_shape(value), static_shape(node.outputs[0])
    if before is None or after is None:
        return None
    if is_op(node, "Transpose"):
        perm = integers(node, "perm", tuple(reversed(range(len(before)))))
        return _Place(perm.index(place.axis), place.outer)
    if any(is_op(node, kind) for kind in ("Reshape", "Squeeze", "Unsqueeze", "Flatten")):
        return _place_in(after, math.prod(before[: place.axis]) * place.outer, batch)
    if is_op(node, "Gather"):
        return _place_gathered(node, place, len(before))
    if node.op_type.startswith("Reduce"):
        return _place_reduced(node, place, len(before))
    return _Place(place.axis + len(after) - len(before), place.outer)


def _place_gathered(node: ir.Node, place: _Place, rank: int) -> _Place | None:
    axis, chosen = integer(node, "axis") % rank, static_shape(node.inputs[1])
    if chosen is None or axis == place.axis:
        return None
    return _Place(place.axis - 1 + len(chosen), place.outer) if axis < place.axis else place


def _place_reduced(node: ir.Node, place: _Place, rank: int) -> _Place | None:
    listed = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = set() if listed is None else {int(axis) % rank for axis in listed.reshape(-1)}
    if not axes or place.axis in axes:
        return None
    gone = 0 if integer(node, "keepdims", 1) else sum(axis < place.axis for axis in axes)
    return _Place(place.axis - gone, place.outer)


def _holds(shape: tuple[int, ...] | None, place: _Place, batch: int) -> bool:
    """Whether the axis has room for the batch; if not, the node mixed it with something else."""
    return shape is not None and place.axis >= 0 and shape[place.axis] % (place.outer * batch) == 0


def _place_in(shape: tuple[int, ...], outer: int, batch: int) -> _Place | None:
    """The axis that holds the batch where `outer` elements stand before it in memory order."""
    for axis in reversed(range(len(shape))):
        before = math.prod(shape[:axis])
        if outer % before == 0 and math.prod(shape[: axis + 1]) % (outer * batch) == 0:
            return _Place(axis, outer // before)
    return None


def _shrink_constants(model: ir.Model, node: ir.Node, axis: int, batch: int) -> None:
    """Divide the batch out of a Reshape target, or out of a constant operand that was expanded to it."""
    after = static_shape(node.outputs[0])
    for position, value in enumerate(node.inputs):
        array = constant_of(value)
        if array is None or value is None or after is None:
            continue
        if is_op(node, "Reshape") and position == 1:
            smaller = np.asarray(after, np.int64)
            smaller[axis] //= batch
        elif node.op_type in ALIGNED and array.ndim == len(after) and array.shape[axis] == batch:
            smaller = np.take(array, [0], axis=axis)
        else:
            continue
        one = stored(model.graph, smaller, f"{value.name}_one_image_{node.name}")
        node.replace_input_with(position, one)
