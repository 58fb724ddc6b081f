"""The operators of maps (images, channels, rows, columns): convolution, pooling, normalisation, another size.

A convolution or pooling may have one, two or three axes behind the channels.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor

from vit_edge.host.operators.shared import Given, Operator, elsewhere, needed, optional
from vit_edge.host.rewrite.values import integer, integers, number

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEAN_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _named(node: ir.Node, name: str) -> str:
    """A STRING attribute; empty where it is not set."""
    attribute = node.attributes.get(name)
    return "" if attribute is None else attribute.as_string()


def _ends(pads: Sequence[int]) -> list[int]:
    """ONNX's sizes (each axis before, then each behind) as torch's `pad` takes them, the last axis first."""
    axes = len(pads) // 2
    return [size for axis in reversed(range(axes)) for size in (pads[axis], pads[axis + axes])]


def _steps(node: ir.Node, axes: int, name: str) -> tuple[int, ...]:
    return integers(node, name, (1,) * axes)


def _pads(node: ir.Node, x: Tensor, kernel: Sequence[int]) -> list[int]:
    """What is added before and behind each axis, `auto_pad` worked out."""
    axes, kind = x.ndim - 2, _named(node, "auto_pad")
    if kind not in ("SAME_UPPER", "SAME_LOWER"):
        return [0] * 2 * axes if kind == "VALID" else list(integers(node, "pads", (0,) * 2 * axes))
    strides, reach = _steps(node, axes, "strides"), _reaches(node, kernel)
    total = [
        max((-(-size // stride) - 1) * stride + wide - size, 0)
        for size, stride, wide in zip(x.shape[2:], strides, reach, strict=True)
    ]
    less, more = [size // 2 for size in total], [size - size // 2 for size in total]
    return [*less, *more] if kind == "SAME_UPPER" else [*more, *less]


def _reaches(node: ir.Node, kernel: Sequence[int]) -> list[int]:
    """How many places a kernel spans along each axis, gaps included."""
    return [
        (size - 1) * gap + 1 for size, gap in zip(kernel, _steps(node, len(kernel), "dilations"), strict=True)
    ]


def _conv(node: ir.Node, given: Given) -> Tensor:
    x, weight, bias = needed(given, 0), needed(given, 1), optional(given, 2)
    axes = x.ndim - 2
    padded = F.pad(x, _ends(_pads(node, x, weight.shape[2:])))
    strides, gaps = _steps(node, axes, "strides"), _steps(node, axes, "dilations")
    return _CONV[axes](padded, weight, bias, strides, 0, gaps, integer(node, "group", 1))


def _conv_transpose(node: ir.Node, given: Given) -> Tensor:
    if _named(node, "auto_pad") not in ("", "NOTSET", "VALID") or integers(node, "output_shape"):
        return elsewhere(node, given)[0]
    x, weight, bias = needed(given, 0), needed(given, 1), optional(given, 2)
    axes, kernel = x.ndim - 2, weight.shape[2:]
    strides, gaps = _steps(node, axes, "strides"), _steps(node, axes, "dilations")
    full = _TRANSPOSED[axes](x, weight, None, strides, 0, 0, integer(node, "group", 1), gaps)
    pads, more = _pads(node, x, kernel), integers(node, "output_padding", (0,) * axes)
    cut = [-size for size in pads[:axes]]
    behind = [extra - size for size, extra in zip(pads[axes:], more, strict=True)]
    made = F.pad(full, _ends([*cut, *behind]))
    return made if bias is None else made + bias.reshape(-1, *[1] * axes)


def _windows(node: ir.Node, x: Tensor, kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """What is added at the ends of each axis, and what more behind it where `ceil_mode` rounds up."""
    axes, pads, more = x.ndim - 2, _pads(node, x, kernel), []
    for axis, (reach, stride) in enumerate(
        zip(_reaches(node, kernel), _steps(node, axes, "strides"), strict=True)
    ):
        size, before, after = x.shape[axis + 2], pads[axis], pads[axis + axes]
        room = size + before + after - reach
        count = (-(-room // stride) if integer(node, "ceil_mode") else room // stride) + 1
        if (count - 1) * stride >= size + before:  # it would begin in what is added behind
            count -= 1
        more.append(max((count - 1) * stride - room, 0))
    return pads, [*[0] * axes, *more]


def _max_pool(node: ir.Node, given: Given) -> Sequence[Tensor]:
    x, kernel = needed(given, 0), integers(node, "kernel_shape")
    if len(node.outputs) > 1 or not x.is_floating_point():
        return elsewhere(node, given)
    axes = x.ndim - 2
    pads, more = _windows(node, x, kernel)
    padded = F.pad(x, _ends([a + b for a, b in zip(pads, more, strict=True)]), value=-math.inf)
    strides, gaps = _steps(node, axes, "strides"), _steps(node, axes, "dilations")
    return [_MAX_POOL[axes](padded, kernel, strides, 0, gaps)]


def _average_pool(node: ir.Node, given: Given) -> Tensor:
    x, kernel = needed(given, 0), integers(node, "kernel_shape")
    axes = x.ndim - 2
    if any(gap != 1 for gap in _steps(node, axes, "dilations")):
        return elsewhere(node, given)[0]
    pads, more = _windows(node, x, kernel)
    counted = F.pad(torch.ones_like(x[:1, :1]), _ends(pads), value=float(integer(node, "count_include_pad")))
    strides, ends = _steps(node, axes, "strides"), _ends(more)
    total = _MEAN_POOL[axes](F.pad(F.pad(x, _ends(pads)), ends), kernel, strides)
    return total / _MEAN_POOL[axes](F.pad(counted, ends), kernel, strides)


def _global(function: Callable[..., Tensor]) -> Operator:
    """Pooling of all that lies behind the channels."""
    return lambda _, given: function(needed(given, 0), tuple(range(2, needed(given, 0).ndim)), True)


def _batch_norm(node: ir.Node, given: Given) -> Tensor:
    x, scale, bias, mean, variance = (needed(given, i) for i in range(5))
    return F.batch_norm(x, mean, variance, scale, bias, eps=number(node, "epsilon", 1e-5))


def _instance_norm(node: ir.Node, given: Given) -> Tensor:
    x, scale, bias = (needed(given, i) for i in range(3))
    return F.instance_norm(x, weight=scale, bias=bias, eps=number(node, "epsilon", 1e-5))


def _resize(node: ir.Node, given: Given) -> Tensor:
    """Axis by axis: a new size is a matrix, which onnxruntime itself makes of the identity.

    Linear and cubic interpolation of several axes are products of those of one (ONNX Resize); nearest, too.
    """
    x, scales, sizes = needed(given, 0), optional(given, 2), optional(given, 3)
    policy, mode = _named(node, "keep_aspect_ratio_policy"), _named(node, "coordinate_transformation_mode")
    if policy not in ("", "stretch") or mode == "tf_crop_and_resize" or not x.is_floating_point():
        return elsewhere(node, given)[0]
    sizes = None if sizes is None or sizes.numel() == 0 else sizes
    factors = scales if sizes is None else sizes
    if factors is None:
        raise ValueError("Resize has neither scales nor sizes")
    axes = integers(node, "axes", tuple(range(x.ndim)))
    for axis, factor in zip(axes, factors, strict=True):
        if float(factor) != (1.0 if sizes is None else x.shape[axis]):
            matrix = _resized_identity(node, x.shape[axis], factor, by_size=sizes is not None).to(x.dtype)
            x = (x.movedim(axis, -1) @ matrix).movedim(-1, axis)
    return x


def _resized_identity(node: ir.Node, size: int, factor: Tensor, *, by_size: bool) -> Tensor:
    """(before, after): what each place of an axis gives to each of the new places."""
    kept = [attribute for key, attribute in node.attributes.items() if key != "axes"]
    alone = ir.Node("", "Resize", [], kept, outputs=[ir.Value(name="y")], name="alone")
    factors = torch.ones(4, dtype=torch.int64 if by_size else torch.float32)
    factors[-1] = factor
    if by_size:
        factors[-2] = size
    identity = torch.eye(size).reshape(1, 1, size, size)
    given = [identity, None, None, factors] if by_size else [identity, None, factors]
    return elsewhere(alone, given)[0][0, 0]


OPERATORS: Mapping[str, Operator] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "GlobalAveragePool": _global(torch.mean),
    "GlobalMaxPool": _global(torch.amax),
    "InstanceNormalization": _instance_norm,
    "MaxPool": _max_pool,
    "Resize": _resize,
}
