"""A Conv of the image whose stride is its kernel becomes Embed: flatten each patch and project it.

Source: Dosovitskiy et al. 2021, equation 1. Exact: without padding the patches do not overlap. A Conv of what
other layers made of the image, such as the last one of a decoder, cuts no patches and stays.
"""

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.composites import DOMAIN, is_op, is_spatial
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import (
    constant_of,
    embed,
    integer,
    integers,
    reshape,
    static_shape,
    transpose,
)

_LAYERS = ("MatMul", "Gemm", "LayerNormalization", "Softmax")


class _Patches(NamedTuple):
    weight: Array  # (dim, channels, height, width)
    grid: tuple[int, int]  # rows and columns of patches


class RaiseEmbed(NodeRule[_Patches]):
    """Conv(image, W, b) -> Embed, followed by the layout (1, dim, rows, columns) it had."""

    ROOTS = ("Conv",)
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,1,2,4] x) => (float[1,3,1,2] y)
        <float[3,1,2,2] w = {1., 2., 3., 4., 5., 6., 7., 8., 9., 8., 7., 6.}, float[3] b = {1., 2., 3.}> {
            y = Conv<strides=[2, 2], kernel_shape=[2, 2]>(x, w, b)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,1,3,4] x) => (float[1,3,2,3] y)
        <float[3,1,2,2] w = {1., 2., 3., 4., 5., 6., 7., 8., 9., 8., 7., 6.}, float[3] b = {1., 2., 3.}> {
            y = Conv<strides=[1, 1], kernel_shape=[2, 2]>(x, w, b)
        }"""

    def find(self, node: ir.Node) -> _Patches | Declined:
        """One image, no padding, groups or dilation, stride equal to kernel, the image a multiple of it."""
        weight, shape = constant_of(node.inputs[1]), static_shape(node.inputs[0])
        if weight is None or weight.ndim != 4 or shape is None or len(shape) != 4 or shape[0] != 1:
            return Declined("not a two-dimensional convolution of one image with a constant weight")
        kernel = weight.shape[2:]
        if integers(node, "strides", (1, 1)) != kernel:
            return Declined(f"the stride {integers(node, 'strides', (1, 1))} is not the kernel {kernel}")
        padded = any(integers(node, "pads")) or _text(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
        if padded or integer(node, "group", 1) != 1 or integers(node, "dilations", (1, 1)) != (1, 1):
            return Declined("the convolution has padding, groups or dilation")
        if shape[2] % kernel[0] or shape[3] % kernel[1]:
            return Declined(f"the image {shape[2:]} is not a multiple of the patch {kernel}")
        layer = _layer_above(required(node.inputs[0], node))
        if layer is not None:
            return Declined(f"it is of what {layer.op_type} ({layer.name}) makes of the image")
        return _Patches(weight, (shape[2] // kernel[0], shape[3] // kernel[1]))

    def replace(self, op: Any, node: ir.Node, found: _Patches) -> ir.Value:
        """The bias goes to every row of the table; there is no prefix yet."""
        weight, (rows, columns) = found
        dim, patch = weight.shape[0], (weight.shape[2], weight.shape[3])
        bias = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
        table = np.tile(np.zeros(dim) if bias is None else bias, (rows * columns, 1))
        made = embed(op, required(node.inputs[0], node), weight.reshape(dim, -1).T, table, patch, 0)
        return transpose(op, reshape(op, made, (1, rows, columns, dim)), (0, 3, 1, 2))


def _layer_above(value: ir.Value) -> ir.Node | None:
    """A layer that a value is computed by; None of the image itself, however it was scaled and laid out."""
    seen: set[ir.Node] = set()
    pending = [value]
    while pending:
        node = pending.pop().producer()
        if node is None or node in seen:
            continue
        if node.domain == DOMAIN or is_spatial(node) or any(is_op(node, kind) for kind in _LAYERS):
            return node
        seen.add(node)
        pending += [each for each in node.inputs if each is not None]
    return None


def _text(node: ir.Node, name: str, default: str) -> str:
    attribute = node.attributes.get(name)
    return attribute.as_string() if attribute is not None else default
