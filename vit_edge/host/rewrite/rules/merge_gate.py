"""The two Linears of a gated feed-forward layer become one Linear and a Split, the gate's columns first."""

from typing import Any, NamedTuple

import onnx_ir as ir

from vit_edge.host.rewrite.composites import LINEAR, is_activation, is_composite
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.rules.merge_qkv import merged
from vit_edge.host.rewrite.values import LinearParts, again, linear_parts, static_shape, typed


class _Pair(NamedTuple):
    act: ir.Node
    gate: LinearParts
    other: LinearParts


class MergeGate(NodeRule[_Pair]):
    """act(Linear(x, W0)) * Linear(x, W1) -> act(Split(Linear(x, [W0 W1]))[0]) * Split(…)[1]."""

    ROOTS = ("Mul",)
    FIRES = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,2] x) => (float[3,2] y)
        <float[2,2] w = {1., 2., 3., 4.}, float[2,2] v = {4., 3., 2., 1.}, float[2] b = {1., -1.},
         float[3,2] a, float[3,2] c, float[3,2] d> {
            a = vit_edge.Linear(x, w, b)
            c = vit_edge.Linear(x, v)
            d = vit_edge.Swish<alpha=1.0>(a)
            y = Mul(d, c)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,2] x, float[3,2] z) => (float[3,2] y)
        <float[2,2] w = {1., 2., 3., 4.}, float[3,2] a, float[3,2] c, float[3,2] d> {
            a = vit_edge.Linear(x, w)
            c = vit_edge.Linear(z, w)
            d = vit_edge.Swish<alpha=1.0>(a)
            y = Mul(d, c)
        }"""

    def find(self, node: ir.Node) -> _Pair | Declined:
        """An activation of one Linear times another Linear of the same input."""
        for activated, other in (node.inputs, reversed(node.inputs)):
            act, beside = required(activated, node).producer(), required(other, node).producer()
            if act is None or beside is None or not is_activation(act) or not is_composite(beside, LINEAR):
                continue
            gate = required(act.inputs[0], act).producer()
            if gate is None or not is_composite(gate, LINEAR):
                continue
            pair = _Pair(act, linear_parts(gate), linear_parts(beside))
            return pair if pair.gate[0] is pair.other[0] else Declined("the halves read different inputs")
        return Declined("not an activation of a linear layer times a linear layer")

    def replace(self, op: Any, node: ir.Node, found: _Pair) -> ir.Value:
        """One Linear with the columns side by side."""
        gate, other = merged(op, [found.gate, found.other])
        shape = required(static_shape(gate), node)
        return typed(op.Mul(again(op, found.act, [gate], shape), other), shape)
