"""BatchNormalization behind a convolution goes into its weight and bias.

Source: Ioffe and Szegedy 2015; ONNX BatchNormalization at inference. Exact but for the rounding of one
multiplication per weight: (x * W + b - mean) gamma / sqrt(var + epsilon) + beta, with one number per channel.
"""

from typing import Any, ClassVar, NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import (
    again,
    constant,
    constant_of,
    integer,
    number,
    only_user,
    static_shape,
)


class _Convolution(NamedTuple):
    node: ir.Node
    weight: Array  # (out, in / group, ...), of a ConvTranspose (in, out / group, ...)
    bias: Array  # (out,)
    scale: Array  # (out,)


class FoldBatchNorm(NodeRule[_Convolution]):
    """BatchNormalization(Conv(x, W, b)) -> Conv(x, W', b'); the same of ConvTranspose."""

    ROOTS: ClassVar[tuple[str, ...]] = ("BatchNormalization",)
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,1,2,2] x) => (float[1,2,2,2] y)
        <float[2,1,1,1] w = {2., -3.}, float[2] b = {1., 2.}, float[2] gamma = {0.5, 2.},
         float[2] beta = {1., -1.}, float[2] mean = {0.25, 3.}, float[2] var = {4., 0.5}, float[1,2,2,2] a> {
            a = Conv(x, w, b)
            y = BatchNormalization<epsilon=0.01>(a, gamma, beta, mean, var)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,1,2,2] x) => (float[1,2,2,2] y, float[1,2,2,2] a)
        <float[2,1,1,1] w = {2., -3.}, float[2] gamma = {0.5, 2.}, float[2] beta = {1., -1.},
         float[2] mean = {0.25, 3.}, float[2] var = {4., 0.5}> {
            a = Conv(x, w)
            y = BatchNormalization(a, gamma, beta, mean, var)
        }"""

    def find(self, node: ir.Node) -> _Convolution | Declined:
        """A convolution that nothing else reads, and what the normalisation makes of its channels."""
        source = None if node.inputs[0] is None else node.inputs[0].producer()
        if source is None or not any(is_op(source, kind) for kind in ("Conv", "ConvTranspose")):
            return Declined("what it normalises is no convolution")
        if only_user(source.outputs[0]) is not node:
            return Declined("something else reads the convolution, too")
        weight = constant_of(source.inputs[1])
        stated = [constant_of(value) for value in node.inputs[1:]]
        given = [each.astype(np.float64) for each in stated if each is not None]
        if weight is None or len(given) != 4 or integer(node, "training_mode"):
            return Declined("a weight or a statistic is not constant")
        gamma, beta, mean, variance = given
        scale = gamma / np.sqrt(variance + number(node, "epsilon", 1e-5))
        bias = constant_of(source.inputs[2]) if len(source.inputs) > 2 else None
        start = np.zeros_like(mean) if bias is None else bias.astype(np.float64)
        return _Convolution(source, weight, (start - mean) * scale + beta, scale)

    def replace(self, op: Any, node: ir.Node, found: _Convolution) -> ir.Value:
        """The convolution with each output channel scaled and moved."""
        weight = found.weight.astype(np.float64)
        if is_op(found.node, "Conv"):
            scaled = weight * _along(found.scale, 0, weight.ndim)
        else:  # output channels stand on the second axis, group by group, each group in its rows
            groups = integer(found.node, "group", 1)
            parts = np.split(weight, groups, axis=0), np.split(found.scale, groups)
            scaled = np.concatenate(
                [part * _along(scale, 1, weight.ndim) for part, scale in zip(*parts, strict=True)]
            )
        inputs = [
            required(found.node.inputs[0], node),
            constant(op, scaled.astype(np.float32), "weight"),
            constant(op, found.bias.astype(np.float32), "bias"),
        ]
        return again(op, found.node, inputs, static_shape(node.outputs[0]) or ())


def _along(scale: Array, axis: int, rank: int) -> Array:
    return scale.reshape([-1 if each == axis else 1 for each in range(rank)])
