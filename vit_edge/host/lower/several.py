"""Operators outside the blocks for any number of images: which follow a free batch as they are, and how.

A graph is that of one image. Of every value that is computed from it the images are the outermost factor of
axis 0: that axis is (images), or (images * rows). An operator that leaves axis 0 alone, and whose constants
do not lie along it, does the same to each of several images; a Reshape leaves its first size open.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from vit_edge.host.lower.graph import GraphWriter
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.composites import DOMAIN, SPATIAL, is_op
from vit_edge.host.rewrite.values import constant_of, integer, integers, static_shape

_ALONE = (  # element by element, of one operand
    *(
        "Abs",
        "Cast",
        "Ceil",
        "Clip",
        "Dropout",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
    ),
    *(
        "Identity",
        "LeakyRelu",
        "Log",
        "Mish",
        "Neg",
        "PRelu",
        "Reciprocal",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
    ),
    *("Sqrt", "Tanh"),
)
_TOGETHER = ("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Where", "Equal", "Less", "Greater")
_ALONG_AXIS = {"Softmax": -1, "LogSoftmax": -1, "LayerNormalization": -1, "LpNormalization": -1, "ArgMax": 0}
_SAME_RANK = (*SPATIAL, "LRN")
Shape = tuple[int, ...]


def follows_batch(node: ir.Node) -> bool:
    """Whether a node, written as `followed` writes it, does to each of several images what it does to one."""
    if node.domain == DOMAIN:
        return True
    check = _CHECKS.get(node.op_type)
    shapes = [static_shape(value) for value in node.outputs]
    if check is None or any(not shape for shape in shapes):
        return False
    computed = [value for value in node.inputs if value is not None and constant_of(value) is None]
    return bool(computed) and check(node, shapes[0] or ())


def takes_any_batch(canonical: Canonical) -> bool:
    """Whether a model can be written for any number of images; a canonical classifier always can."""
    found = canonical.description
    if found is not None and not found.head:
        return True
    return all(follows_batch(node) for node in canonical.model.graph)


def followed(w: GraphWriter, node: ir.Node, inputs: list[ir.Value | None]) -> list[ir.Value | None]:
    """The inputs of such a node, with what they say about the number of images left open."""
    name, shape = node.name or node.op_type, static_shape(node.outputs[0]) or ()
    if is_op(node, "Reshape"):
        return [inputs[0], w.shared(np.asarray([-1, *shape[1:]], np.int64), "shape")]
    if (
        is_op(node, "Resize")
        and len(node.inputs) > 3
        and node.inputs[3] is not None
        and not _axes_given(node)
    ):
        scales = _scales(static_shape(node.inputs[0]) or (), shape)
        return [inputs[0], None, w.constant(np.asarray(scales, np.float32), f"{name}.scales")]
    return inputs


def _scales(before: Shape, after: Shape) -> list[float]:
    """Factors whose products, rounded down as ONNX Resize does, are the sizes that were asked for."""
    found = []
    for old, new in zip(before, after, strict=True):
        scale = np.float32(new / old)
        while math.floor(np.float32(old) * scale) < new:
            scale = np.nextafter(scale, np.float32(np.inf))
        found.append(float(scale))
    return found


def _elementwise(node: ir.Node, shape: Shape) -> bool:
    """No constant lies along axis 0, and computed operands have as much of it as the result."""
    for value in node.inputs:
        own = static_shape(value)
        if value is None or own is None:
            return False
        if constant_of(value) is not None:
            if len(own) == len(shape) and own[0] != 1:
                return False
        elif len(own) != len(shape) or own[0] != shape[0]:
            return False
    return True


def _first_operand(node: ir.Node, _: Shape) -> bool:
    """Further operands are constants that do not concern axis 0."""
    return all(value is None or constant_of(value) is not None for value in node.inputs[1:])


def _axis(node: ir.Node, shape: Shape) -> bool:
    rank = len(static_shape(node.inputs[0]) or ())
    axis = integer(node, "axis", _ALONG_AXIS.get(node.op_type, 0))
    return rank > 1 and axis % rank != 0 and _first_operand(node, shape)


def _concat(node: ir.Node, shape: Shape) -> bool:
    computed = all(value is not None and constant_of(value) is None for value in node.inputs)
    return computed and integer(node, "axis") % len(shape) != 0


def _listed(position: int) -> Callable[[ir.Node, Shape], bool]:
    """Of operators whose axes are an input."""

    def check(node: ir.Node, shape: Shape) -> bool:
        rank = max(len(shape), len(static_shape(node.inputs[0]) or ()))
        axes = constant_of(node.inputs[position]) if len(node.inputs) > position else None
        if axes is None:
            return False
        return all(int(axis) % rank != 0 for axis in axes.reshape(-1)) and _first_operand(node, shape)

    return check


def _transpose(node: ir.Node, shape: Shape) -> bool:
    return integers(node, "perm", tuple(reversed(range(len(shape)))))[0] == 0


def _flatten(node: ir.Node, _: Shape) -> bool:
    return integer(node, "axis", 1) == 1


def _pad(node: ir.Node, shape: Shape) -> bool:
    pads = constant_of(node.inputs[1])
    if pads is None or len(node.inputs) > 3:
        return False
    return pads[0] == 0 and pads[len(pads) // 2] == 0 and _first_operand(node, shape)


def _product(node: ir.Node, _: Shape) -> bool:
    """A product with a constant matrix, or of two stacks of matrices with one image outermost in both."""
    left, right = node.inputs[0], node.inputs[1]
    first, second = static_shape(left) or (), static_shape(right) or ()
    if constant_of(right) is not None:
        return len(first) >= 2 and (len(second) <= 2 or (len(second) <= len(first) and second[0] == 1))
    if constant_of(left) is not None:
        return len(second) > 2 and (len(first) <= 2 or first[0] == 1)
    return len(first) == len(second) > 2 and first[0] == second[0] == 1


def _gemm(node: ir.Node, _: Shape) -> bool:
    constants = all(constant_of(value) is not None for value in node.inputs[1:])
    bias = static_shape(node.inputs[2]) if len(node.inputs) > 2 else None
    return constants and not integer(node, "transA") and (bias is None or len(bias) < 2 or bias[0] == 1)


def _reshape(node: ir.Node, shape: Shape) -> bool:
    before = static_shape(node.inputs[0])
    return before is not None and math.prod(before) == math.prod(shape) > 0


def _axes_given(node: ir.Node) -> bool:
    return bool(integers(node, "axes"))


def _resize(node: ir.Node, shape: Shape) -> bool:
    before = static_shape(node.inputs[0]) or ()
    if len(before) != len(shape) or before[0] != shape[0] or not _first_operand(node, shape):
        return False
    if _axes_given(node):
        return all(axis % len(shape) != 0 for axis in integers(node, "axes"))
    policy = node.attributes.get("keep_aspect_ratio_policy")
    crops = node.attributes.get("coordinate_transformation_mode")
    return (policy is None or policy.as_string() == "stretch") and (
        crops is None or crops.as_string() != "tf_crop_and_resize"
    )


_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
_CHECKS: dict[str, Callable[[ir.Node, Shape], Any]] = {
    **dict.fromkeys(_ALONE, _first_operand),
    **dict.fromkeys(_TOGETHER, _elementwise),
    **dict.fromkeys(_ALONG_AXIS, _axis),
    **dict.fromkeys(_SAME_RANK, _first_operand),
    **{f"Reduce{kind}": _listed(1) for kind in _REDUCTIONS},
    **dict.fromkeys(("Squeeze", "Unsqueeze"), _listed(1)),
    **dict.fromkeys(("Split", "Gather"), _axis),
    "Concat": _concat,
    "Slice": _listed(3),
    "Transpose": _transpose,
    "Flatten": _flatten,
    "Pad": _pad,
    "MatMul": _product,
    "Gemm": _gemm,
    "Reshape": _reshape,
    "Resize": _resize,
}
