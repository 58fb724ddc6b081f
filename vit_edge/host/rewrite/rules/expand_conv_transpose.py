"""A ConvTranspose whose kernel is a multiple of its stride becomes Conv, DepthToSpace and Slice.

Source: Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?". Exact: with stride s
each output row s m + r is a sum of input rows m, m - 1, … with the weights r, r + s, … of the kernel, so the
s * s outputs of one place are channels of a Conv with a kernel s times smaller, and DepthToSpace (mode CRD)
lays them side by side. Products are as many as before. onnxruntime computes it faster, and in integers, for
which ConvTranspose has no kernel.
"""

from typing import Any, ClassVar, NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import constant, constant_of, integer, integers, static_shape, typed


class _Axis(NamedTuple):
    """How one axis is padded before the Conv and cut behind DepthToSpace."""

    before: int
    behind: int
    cut: int  # of the shuffled axis in front
    kept: int  # places


class _Expanded(NamedTuple):
    weight: Array  # (out * stride * stride, in / group, rows, columns)
    bias: Array  # (out * stride * stride,)
    stride: int
    rows: _Axis
    columns: _Axis


class ExpandConvTranspose(NodeRule[_Expanded]):
    """ConvTranspose(x, W, b) -> Slice(DepthToSpace(Conv(x, W', b')))."""

    ROOTS: ClassVar[tuple[str, ...]] = ("ConvTranspose",)
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,1,2,3] x) => (float[1,2,4,6] y)
        <float[1,2,4,4] w = {1.,2.,3.,4.,5.,6.,7.,8.,9.,1.,2.,3.,4.,5.,6.,7.,
         8.,9.,1.,2.,3.,4.,5.,6.,7.,8.,9.,1.,2.,3.,4.,5.}, float[2] b = {1., -2.}> {
            y = ConvTranspose<strides=[2, 2], pads=[1, 1, 1, 1]>(x, w, b)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,1,2,2] x) => (float[1,1,5,5] y)
        <float[1,1,3,3] w = {1.,2.,3.,4.,5.,6.,7.,8.,9.}> { y = ConvTranspose<strides=[2, 2]>(x, w) }"""

    def find(self, node: ir.Node) -> _Expanded | Declined:
        """The weight in its new order, and what is padded and cut."""
        weight, given = constant_of(node.inputs[1]), static_shape(node.inputs[0])
        made = static_shape(node.outputs[0])
        if weight is None or weight.ndim != 4 or given is None or made is None:
            return Declined("not two-dimensional, of a constant weight and a known size")
        strides, kind = integers(node, "strides", (1, 1)), node.attributes.get("auto_pad")
        if strides[0] != strides[1]:
            return Declined("its strides differ")
        if any(size % strides[0] for size in weight.shape[2:]):
            return Declined("its kernel is no multiple of its stride: it stays float")
        told = integers(node, "output_shape") or (kind is not None and kind.as_string() != "NOTSET")
        if told or any(gap != 1 for gap in integers(node, "dilations", (1, 1))):
            return Declined("it has dilation, or its padding is not written out")
        pads = integers(node, "pads", (0,) * 4)
        rows, columns = (
            _axis(given[2 + i], made[2 + i], pads[i], strides[0], weight.shape[2 + i] // strides[0])
            for i in (0, 1)
        )
        if min(rows.before, rows.behind, columns.before, columns.behind) < 0:
            return Declined("it cuts off more than its kernel adds")
        groups = integer(node, "group", 1)
        bias = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
        wide = np.zeros(groups * weight.shape[1]) if bias is None else bias
        repeated = np.repeat(wide.astype(np.float32), strides[0] ** 2)
        return _Expanded(_by_phase(weight, groups, strides[0]), repeated, strides[0], rows, columns)

    def replace(self, op: Any, node: ir.Node, found: _Expanded) -> ir.Value:
        """The three operators, without those that would do nothing."""
        rows, columns, stride = found.rows, found.columns, found.stride
        channels = len(found.bias) // stride**2
        given = static_shape(node.inputs[0]) or ()
        down, across = (
            size + axis.before + axis.behind - kernel + 1
            for size, axis, kernel in zip(given[2:], (rows, columns), found.weight.shape[2:], strict=True)
        )
        x = op.Conv(
            required(node.inputs[0], node),
            constant(op, found.weight, "weight"),
            constant(op, found.bias, "bias"),
            kernel_shape=list(found.weight.shape[2:]),
            pads=[rows.before, columns.before, rows.behind, columns.behind],
            group=integer(node, "group", 1),
        )
        x = typed(x, (given[0], len(found.bias), down, across))
        if stride > 1:
            shape = (given[0], channels, down * stride, across * stride)
            x = typed(op.DepthToSpace(x, blocksize=stride, mode="CRD"), shape)
        if (rows.cut, rows.kept, columns.cut, columns.kept) == (0, down * stride, 0, across * stride):
            return x
        first, last = (rows.cut, columns.cut), (rows.cut + rows.kept, columns.cut + columns.kept)
        bounds = [constant(op, np.asarray(each, np.int64), "bound") for each in (first, last, (2, 3))]
        return typed(op.Slice(x, *bounds), (given[0], channels, rows.kept, columns.kept))


def _axis(size: int, made: int, pad: int, stride: int, kernel: int) -> _Axis:
    """How an axis of `size` becomes one of `made` by a kernel that is `stride` times smaller."""
    before, cut = kernel - 1 - pad // stride, pad % stride
    places = -(-(cut + made) // stride)
    return _Axis(before, places + kernel - 1 - size - before, cut, made)


def _by_phase(weight: Array, groups: int, stride: int) -> Array:
    """(in, out / group, rows, columns) -> (out * stride², in / group, rows / stride, …), mirrored."""
    inside, outside, rows, columns = weight.shape
    down, across = rows // stride, columns // stride
    apart = weight.reshape(groups, inside // groups, outside, down, stride, across, stride)
    ordered = apart[:, :, :, ::-1, :, ::-1].transpose(0, 2, 4, 6, 1, 3, 5)
    flat = ordered.reshape(groups * outside * stride**2, inside // groups, down, across)
    return np.ascontiguousarray(flat, np.float32)
