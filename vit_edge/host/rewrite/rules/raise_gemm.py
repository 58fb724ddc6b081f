"""Gemm with a constant weight becomes Linear: alpha * x @ W (+ beta * b). Source: ONNX Gemm."""

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import constant_of, integer, linear, number, static_shape


class RaiseGemm(NodeRule[tuple[Array, Array | None]]):
    """Gemm(x, W, b) -> Linear(x, alpha * W, beta * b)."""

    ROOTS: ClassVar[tuple[str, ...]] = ("Gemm",)
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[3,2] x) => (float[3,2] y) <float[2,2] w = {1.0, 2.0, 3.0, 4.0}, float[2] b = {0.5, -0.5}> {
            y = Gemm<transB=1, alpha=0.5, beta=2.0>(x, w, b)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[3,2] x, float[2,2] w) => (float[3,2] y) <float[2] b = {0.5, -0.5}> {
            y = Gemm<transB=1>(x, w, b)
        }"""

    def find(self, node: ir.Node) -> tuple[Array, Array | None] | Declined:
        """(weight, bias): constant, the bias of one value per column, where x is not transposed."""
        weight = constant_of(node.inputs[1])
        if weight is None:
            return Declined("the weight is computed at run time")
        if weight.dtype != np.float32 or static_shape(node.inputs[0]) is None:
            return Declined("the input is not float32 of a static shape")
        if integer(node, "transA"):
            return Declined("the input is transposed")
        if len(node.inputs) < 3 or node.inputs[2] is None:
            return weight, None
        bias = constant_of(node.inputs[2])
        columns = weight.shape[0] if integer(node, "transB") else weight.shape[1]
        per_column = bias is not None and bias.size == columns and bias.shape[-1:] == (columns,)
        if bias is None or not (bias.size == 1 or per_column):
            return Declined("the bias is not a constant with one value per column")
        return weight, bias

    def replace(self, op: Any, node: ir.Node, found: tuple[Array, Array | None]) -> ir.Value:
        """Fold alpha, beta and the transposition into the constants."""
        weight, bias = found
        weight = (weight.T if integer(node, "transB") else weight) * np.float32(number(node, "alpha", 1.0))
        if bias is not None:
            scaled = bias.reshape(-1) * np.float32(number(node, "beta", 1.0))
            bias = np.broadcast_to(scaled, weight.shape[1:])
        return linear(op, required(node.inputs[0], node), weight, bias)
