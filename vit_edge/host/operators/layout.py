"""The operators of heads that move, repeat and choose numbers."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from vit_edge.host.operators.shared import Given, Operator, elsewhere, needed, optional, whole
from vit_edge.host.rewrite.values import integer

_PLACES = {  # of an axis of `size`, which is lengthened to either side
    "edge": lambda places, size: places.clamp(0, size - 1),
    "reflect": lambda places, size: (size - 1) - ((size - 1) - places % max(2 * size - 2, 1)).abs(),
    "wrap": lambda places, size: places % size,
}


def _pad(node: ir.Node, given: Given) -> Tensor:
    x, pads, value, axes = needed(given, 0), whole(given[1]), optional(given, 2), optional(given, 3)
    mode = node.attributes.get("mode")
    kind = "constant" if mode is None else mode.as_string()
    along = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in whole(axes)]
    ends = {axis: (pads[i], pads[i + len(along)]) for i, axis in enumerate(along)}
    if kind == "constant":
        sizes = [size for axis in reversed(range(x.ndim)) for size in ends.get(axis, (0, 0))]
        return torch.nn.functional.pad(x, sizes, value=0.0 if value is None else float(value))
    for axis, (before, after) in ends.items():
        places = torch.arange(-before, x.shape[axis] + after)
        x = x.index_select(axis, _PLACES[kind](places, x.shape[axis]))
    return x


def _unsqueeze(_: ir.Node, given: Given) -> Tensor:
    x, axes = needed(given, 0), whole(given[1])
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(_: ir.Node, given: Given) -> Tensor:
    x, axes = needed(given, 0), optional(given, 1)
    if axes is None:
        return x.squeeze()
    return x.squeeze(tuple(whole(axes)))


def _flatten(node: ir.Node, given: Given) -> Tensor:
    x, axis = needed(given, 0), integer(node, "axis", 1)
    return x.reshape(x.shape[: axis if axis >= 0 else axis + x.ndim].numel(), -1)


def _expand(_: ir.Node, given: Given) -> Tensor:
    x = needed(given, 0)
    return x.expand(np.broadcast_shapes(tuple(x.shape), tuple(whole(given[1]))))


def _tile(_: ir.Node, given: Given) -> Tensor:
    return needed(given, 0).repeat(whole(given[1]))


def _depth_to_space(node: ir.Node, given: Given) -> Tensor:
    x, block, mode = needed(given, 0), integer(node, "blocksize"), node.attributes.get("mode")
    images, channels, rows, columns = x.shape
    fewer = channels // block**2
    if mode is not None and mode.as_string() == "CRD":
        apart = x.reshape(images, fewer, block, block, rows, columns).permute(0, 1, 4, 2, 5, 3)
    else:
        apart = x.reshape(images, block, block, fewer, rows, columns).permute(0, 3, 4, 1, 5, 2)
    return apart.reshape(images, fewer, rows * block, columns * block)


def _space_to_depth(node: ir.Node, given: Given) -> Tensor:
    x, block = needed(given, 0), integer(node, "blocksize")
    images, channels, rows, columns = x.shape
    apart = x.reshape(images, channels, rows // block, block, columns // block, block)
    return apart.permute(0, 3, 5, 1, 2, 4).reshape(images, -1, rows // block, columns // block)


def _gather_elements(node: ir.Node, given: Given) -> Tensor:
    x, places, axis = needed(given, 0), needed(given, 1), integer(node, "axis")
    wrapped = torch.where(places < 0, places + x.shape[axis], places).to(torch.int64)
    return torch.gather(x, axis, wrapped)


def _top(node: ir.Node, given: Given) -> Sequence[Tensor]:
    """By onnxruntime which of equals comes first; the numbers are taken from where it found them."""
    x, rest = needed(given, 0), given[1:]
    places = elsewhere(node, [x.detach(), *rest])[1]
    return [torch.gather(x, integer(node, "axis", -1), places), places]


def _einsum(node: ir.Node, given: Given) -> Tensor:
    equation = node.attributes["equation"].as_string()
    return torch.einsum(equation, *(x for x in given if x is not None))


OPERATORS: Mapping[str, Operator] = {
    "DepthToSpace": _depth_to_space,
    "Einsum": _einsum,
    "Expand": _expand,
    "Flatten": _flatten,
    "GatherElements": _gather_elements,
    "Pad": _pad,
    "SpaceToDepth": _space_to_depth,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "TopK": _top,
    "Unsqueeze": _unsqueeze,
}
