"""An INT8 product whose input has one range becomes a Linear.

The spelling is that of a Gemm between DequantizeLinear and an int32 bias in the accumulator's own scale,
which onnxruntime fuses to QGemm. The sums are the same integers.
"""

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.kernels.operators import LINEAR, made, shape_of, weight_inputs
from vit_edge.host.kernels.read import Codes, codes_behind, weight_behind
from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.rule import Declined, NodeRule
from vit_edge.host.rewrite.values import constant_of, integer, number, typed


class Product(NamedTuple):
    """What a Linear needs."""

    codes: Codes
    weight: Array
    scale: Array
    start: Array  # int32, of the sums
    rows: ir.Value | None = None  # what each row is multiplied with
    bias: Array | None = None


def linear(op: Any, node: ir.Node, found: Product) -> ir.Value:
    """A Linear that gives floats."""
    attributes = {
        "input_scale": found.codes.scale,
        "input_zero_point": found.codes.zero_point,
        "biased": int(found.bias is not None),
    }
    constants = weight_inputs(op, found.weight, found.scale, found.start, found.bias)
    inputs = [found.codes.value, found.rows, None, *constants]
    value: ir.Value = made(op, LINEAR, inputs, attributes, 1)
    return typed(value, list(shape_of(node.outputs[0])))


class RaiseProduct(NodeRule[Product]):
    """Gemm(DQ(x), DQ(W), DQ(b)) -> Linear(x, W, b)."""

    ROOTS = ("Gemm",)
    FIRES = """<ir_version: 9, opset_import: ["": 20]>
        g (uint8[5,4] x) => (float[5,2] y)
        <float s = {0.5}, uint8 z = {7}, int8[4,2] w = {1, 2, -3, 4, 5, -6, 7, 8}, float[2] ws = {0.25, 0.5},
         int8[2] wz = {0, 0}, int32[2] b = {3, -4}, float[2] bs = {0.125, 0.25}, int32[2] bz = {0, 0},
         float[5,4] xf, float[4,2] wf, float[2] bf> {
            xf = DequantizeLinear(x, s, z)
            wf = DequantizeLinear<axis=1>(w, ws, wz)
            bf = DequantizeLinear<axis=0>(b, bs, bz)
            y = Gemm(xf, wf, bf)
        }"""
    HOLDS = """<ir_version: 9, opset_import: ["": 20]>
        g (uint8[5,4] x) => (float[5,2] y)
        <float s = {0.5}, uint8 z = {7}, int8[4,2] w = {1, 2, -3, 4, 5, -6, 7, 8}, float[2] ws = {0.25, 0.5},
         int8[2] wz = {0, 0}, float[2] bf = {0.5, -0.5}, float[5,4] xf, float[4,2] wf> {
            xf = DequantizeLinear(x, s, z)
            wf = DequantizeLinear<axis=1>(w, ws, wz)
            y = Gemm(xf, wf, bf)
        }"""

    def find(self, node: ir.Node) -> Product | Declined:
        """The codes, the weight and the bias in steps of the accumulator."""
        if integer(node, "transA") or integer(node, "transB") or number(node, "alpha", 1.0) != 1.0:
            return Declined("a product of turned or scaled operands")
        codes, weight = codes_behind(node.inputs[0]), weight_behind(node.inputs[1])
        if codes is None or codes.signed or weight is None:
            return Declined("a product that is not of uint8 rows and an int8 weight with a scale per column")
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        stored = bias.producer() if bias is not None else None
        start = constant_of(stored.inputs[0]) if is_op(stored, "DequantizeLinear") and stored else None
        steps = constant_of(stored.inputs[1]) if start is not None and stored else None
        if start is None or steps is None or start.dtype != np.int32 or start.shape != weight[1].shape:
            return Declined("a product whose bias is not in steps of the accumulator")
        if not np.allclose(steps, np.float32(codes.scale) * weight[1], rtol=1e-6):
            return Declined("a product whose bias is in steps of its own")
        return Product(codes, *weight, start)

    def replace(self, op: Any, node: ir.Node, found: Product) -> ir.Value:
        """The Linear."""
        return linear(op, node, found)
