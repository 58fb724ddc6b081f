"""A Mul or Add of a constant vector behind a normalization becomes its scale and bias.

Behind RmsNorm, which has no bias, a Mul becomes its scale.
"""

from typing import Any

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.composites import RMS_NORM, is_composite, is_norm, is_op
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import constant, constant_of, number, rms_norm, static_shape, users


class FoldNormAffine(NodeRule[tuple[ir.Node, Array, Array]]):
    """LayerNormalization(x, g, b) * c + d -> LayerNormalization(x, g * c, b * c + d)."""

    ROOTS = ("Mul", "Add")
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2,4] x) => (float[2,4] y)
        <float[4] gamma = {1.0, 2.0, 0.5, 1.5}, float[4] c = {0.1, 0.2, 0.3, 0.4},
         float[2,4] a, float[2,4] b> {
            a = LayerNormalization<axis=-1>(x, gamma)
            b = Mul(a, c)
            y = Add(c, b)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2,4] x) => (float[2,4] y)
        <float[4] gamma = {1.0, 2.0, 0.5, 1.5}, float[2,1] c = {0.1, 0.2}, float[2,4] a> {
            a = LayerNormalization<axis=-1>(x, gamma)
            y = Mul(a, c)
        }"""

    def find(self, node: ir.Node) -> tuple[ir.Node, Array, Array] | Declined:
        """(a normalization, its scale, the vector beside it), where all that read it are such."""
        for made, other in ((node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])):
            vector, shape = constant_of(other), static_shape(made)
            source = made.producer() if made is not None else None
            if vector is None or shape is None or source is None or made is None:
                continue
            if not is_norm(source) or not _folds_into_all(made):
                continue
            gamma = constant_of(source.inputs[1])
            if is_composite(source, RMS_NORM) and not is_op(node, "Mul"):
                continue
            if gamma is not None and vector.size == shape[-1] and vector.shape[-1:] == shape[-1:]:
                return source, gamma, vector.reshape(-1)
        return Declined("no operand is a LayerNormalization with a vector beside it")

    def replace(self, op: Any, node: ir.Node, found: tuple[ir.Node, Array, Array]) -> ir.Value:
        """Combine the vectors now."""
        source, gamma, vector = found
        if is_composite(source, RMS_NORM):
            return rms_norm(op, required(source.inputs[0], source), gamma * vector, number(source, "epsilon"))
        beta = constant_of(source.inputs[2]) if len(source.inputs) > 2 else None
        beta = np.zeros_like(gamma) if beta is None else beta
        gamma, beta = (gamma * vector, beta * vector) if is_op(node, "Mul") else (gamma, beta + vector)
        parameters = constant(op, gamma, "gamma"), constant(op, beta, "beta")
        epsilon = number(source, "epsilon", 1e-5)
        made: ir.Value = op.LayerNormalization(source.inputs[0], *parameters, axis=-1, epsilon=epsilon)
        return made


def _folds_into_all(made: ir.Value) -> bool:
    """Whether every reader is a Mul or Add of a vector; several are, where one stream is normalised twice."""
    shape = static_shape(made) or ()
    if made.is_graph_output():
        return False
    for node in users(made):
        vectors = [each for value in node.inputs if (each := constant_of(value)) is not None]
        if node.op_type not in FoldNormAffine.ROOTS or len(vectors) != 1:
            return False
        if vectors[0].size != shape[-1] or vectors[0].shape[-1:] != shape[-1:]:
            return False
    return True
