"""Where what a Linear, an attention or a normalization gives is quantized, that gives the codes.

One range for all of them or, of a Linear, one for each column.
"""

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.host.kernels.operators import (
    ATTENTION,
    BIAS,
    LINEAR,
    NORM,
    Attributes,
    Range,
    coded,
    numbers,
    shape_of,
    sole,
)
from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.rule import Declined, NodeRule
from vit_edge.host.rewrite.values import constant_of, integer, number, only_user, typed


class Coded(NamedTuple):
    """What gives the values, how they are coded, and the Reshape between."""

    node: ir.Node
    kind: str
    reach: Range
    shape: ir.Value | None = None
    columns: tuple[ir.Value | None, ...] = ()  # the scale and the zero point of each


class MergeCodes(NodeRule[Coded]):
    """QuantizeLinear(Linear(x)) -> LinearCodes(x); or of Attention or LayerNormalization."""

    ROOTS = ("QuantizeLinear",)
    FIRES = """<ir_version: 9, opset_import: ["": 20]>
        g (float[5,4] x) => (uint8[5,4] y)
        <float[4] w = {1.0, 2.0, 0.5, 1.5}, float[4] b = {0.1, 0.2, 0.3, 0.4}, float s = {0.03},
         uint8 z = {120}, float[5,4] n> {
            n = LayerNormalization<axis=-1, epsilon=0.000001>(x, w, b)
            y = QuantizeLinear(n, s, z)
        }"""
    HOLDS = """<ir_version: 9, opset_import: ["": 20]>
        g (float[5,4] x) => (int8[5,4] y)
        <float[4] w = {1.0, 2.0, 0.5, 1.5}, float[4] b = {0.1, 0.2, 0.3, 0.4}, float s = {0.03},
         int8 z = {0}, float[5,4] n> {
            n = LayerNormalization<axis=-1, epsilon=0.000001>(x, w, b)
            y = QuantizeLinear(n, s, z)
        }"""

    def find(self, node: ir.Node) -> Coded | Declined:
        """What makes the values, read by this quantizer alone."""
        scale, zero = (constant_of(value) for value in (*node.inputs[1:], None)[:2])
        if scale is None or zero is None or zero.dtype != np.uint8:
            return Declined("codes of another type than uint8")
        value, shape = node.inputs[0], None
        if value is not None and is_op(value, "Reshape") and only_user(value) is not None and scale.size == 1:
            reshape = value.producer()
            if reshape is not None:
                value, shape = reshape.inputs[0], reshape.inputs[1]
        source = coded_by(value)
        if source is None:
            return Declined("codes of what no operator of ours gives, or others read too")
        if scale.size == 1:
            reach = Range(float(scale.reshape(())), int(zero.reshape(())))
            return Coded(*source, reach, shape)
        by_column = integer(node, "axis", 1) in (1, -1) and len(shape_of(node.outputs[0])) == 2
        if source[1] != LINEAR or not by_column:
            return Declined("codes with several scales that are no columns of a Linear")
        return Coded(
            *source, Range(1.0, 0), None, tuple(each for each in node.inputs[1:] if each is not None)
        )

    def replace(self, op: Any, node: ir.Node, found: Coded) -> ir.Value:
        """The codes."""
        attributes = attributes_of(found.node, found.kind)
        inputs = list(found.node.inputs)
        if found.columns:
            attributes |= {"by_column": 1}
            inputs += [None] * (BIAS + 1 - len(inputs)) + list(found.columns)
        (codes,) = coded(op, found.node, found.kind, attributes, found.reach, inputs)
        if found.shape is None:
            return codes
        return typed(op.Reshape(codes, found.shape), list(shape_of(node.outputs[0])), ir.DataType.UINT8)


def coded_by(value: ir.Value | None) -> tuple[ir.Node, str] | None:
    """The node, and its kind, that could give codes in place of `value`, which one other alone reads."""
    for kind in (LINEAR, ATTENTION):
        node = sole(value, kind)
        if node is not None:
            return node, kind
    if value is None or not is_op(value, "LayerNormalization") or only_user(value) is None:
        return None
    norm = value.producer()
    last = norm is not None and integer(norm, "axis", -1) in (-1, len(shape_of(value)) - 1)
    whole = (
        norm is not None
        and len(norm.inputs) == 3
        and all(constant_of(each) is not None for each in norm.inputs[1:])
    )
    return (norm, NORM) if norm is not None and last and whole else None


def attributes_of(node: ir.Node, kind: str) -> Attributes:
    """What an operator of ours takes over from a node."""
    return {"epsilon": number(node, "epsilon", 1e-5)} if kind == NORM else numbers(node)
