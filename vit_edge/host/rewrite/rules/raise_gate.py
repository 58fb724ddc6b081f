"""The two halves of a gated feed-forward layer become two Linears, however they were cut from one.

Source: Shazeer 2020, "GLU Variants Improve Transformer" (SwiGLU); DINOv2's largest model and timm's packed
layers have one projection for both. Each half is found by running the layout operators on element positions.
"""

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.host.rewrite.composites import LINEAR, is_activation, is_composite
from vit_edge.host.rewrite.layout import RESHAPING, SELECTING, Indices, trace
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import again, linear, linear_parts, reshape, static_shape, typed


class _Half(NamedTuple):
    linear: ir.Node
    columns: Indices  # of that Linear, those that the half takes

    @property
    def whole(self) -> bool:
        """Whether it takes all of them."""
        return bool(self.columns.size == linear_parts(self.linear)[1].shape[1])


class _Gate(NamedTuple):
    act: ir.Node
    gate: _Half  # in front of the activation
    other: _Half


class RaiseGate(NodeRule[_Gate]):
    """act(Split(Linear(x, W))[0]) * Split(Linear(x, W))[1] -> act(Linear(x, W0)) * Linear(x, W1)."""

    ROOTS = ("Mul",)
    FIRES = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,2] x) => (float[3,2] y)
        <float[2,4] w = {1., 2., 3., 4., 4., 3., 2., 1.}, float[4] b = {1., 2., 3., 4.},
         float[3,4] h, float[3,2] a, float[3,2] c, float[3,2] d> {
            h = vit_edge.Linear(x, w, b)
            a, c = Split<axis=1, num_outputs=2>(h)
            d = vit_edge.Swish<alpha=1.0>(a)
            y = Mul(d, c)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,2] x) => (float[3,2] y)
        <float[2,2] w = {1., 2., 3., 4.}, float[2,2] v = {4., 3., 2., 1.},
         float[3,2] a, float[3,2] c, float[3,2] d> {
            a = vit_edge.Linear(x, w)
            c = vit_edge.Linear(x, v)
            d = vit_edge.Swish<alpha=1.0>(a)
            y = Mul(d, c)
        }"""

    def find(self, node: ir.Node) -> _Gate | Declined:
        """One factor is an activation of some columns of a Linear, the other is some columns of a Linear."""
        for activated, other in (node.inputs, reversed(node.inputs)):
            act = required(activated, node).producer()
            if act is None or not is_activation(act) or static_shape(node.outputs[0]) is None:
                continue
            halves = _half(act.inputs[0]), _half(other)
            if halves[0] is None or halves[1] is None:
                continue
            if halves[0].whole and halves[1].whole:
                return Declined("the halves are two Linears already")
            return _Gate(act, halves[0], halves[1])
        return Declined("no factor is an activation of columns of a linear layer")

    def replace(self, op: Any, node: ir.Node, found: _Gate) -> ir.Value:
        """Each half computed by itself."""
        shape = required(static_shape(node.outputs[0]), node)
        gate, other = (reshape(op, _made(op, half), shape) for half in (found.gate, found.other))
        return typed(op.Mul(again(op, found.act, [gate], shape), other), shape)


def _half(value: ir.Value | None) -> _Half | None:
    """The columns of a Linear that a value is, every row's the same."""
    found = None if value is None else trace(value, through=(*RESHAPING, *SELECTING))
    source = None if found is None else found.source.producer()
    shape = None if found is None else static_shape(found.source)
    if found is None or source is None or shape is None or not is_composite(source, LINEAR):
        return None
    rows = found.index.reshape(-1, found.index.shape[-1])
    columns: Indices = rows[0] % shape[1]
    expected = np.arange(shape[0])[:, None] * shape[1] + columns
    return _Half(source, columns) if np.array_equal(rows, expected) else None


def _made(op: Any, half: _Half) -> ir.Value:
    if half.whole:
        return half.linear.outputs[0]
    x, weight, bias = linear_parts(half.linear)
    return linear(op, x, weight[:, half.columns], None if bias is None else bias[half.columns])
