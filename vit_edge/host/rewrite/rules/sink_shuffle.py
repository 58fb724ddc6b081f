"""Relu and Clip in front of DepthToSpace and Slice, directly behind the convolution that they belong to.

Exact: both act on each number alone, and the operators only move numbers and cut some off. An integer kernel
for convolutions then computes the activation, too, and gives codes in its range.
"""

from typing import Any, ClassVar, NamedTuple

import onnx_ir as ir

from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import again, constant_of, only_user, static_shape


class _Moved(NamedTuple):
    mover: ir.Node  # DepthToSpace or Slice
    shape: tuple[int, ...]  # of what it moves


class SinkShuffle(NodeRule[_Moved]):
    """Relu(Slice(DepthToSpace(Conv(x)))) -> Slice(DepthToSpace(Relu(Conv(x)))), a step at a time."""

    ROOTS: ClassVar[tuple[str, ...]] = ("Relu", "Clip")
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,1,2,2] x) => (float[1,1,4,4] y)
        <float[4,1,1,1] w = {2., -3., 1., -1.}, float[1,4,2,2] a, float[1,1,4,4] b> {
            a = Conv(x, w)
            b = DepthToSpace<blocksize=2, mode="CRD">(a)
            y = Relu(b)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,1,2,2] x) => (float[1,1,4,4] y, float[1,1,4,4] b)
        <float[4,1,1,1] w = {2., -3., 1., -1.}, float[1,4,2,2] a> {
            a = Conv(x, w)
            b = DepthToSpace<blocksize=2, mode="CRD">(a)
            y = Relu(b)
        }"""

    def find(self, node: ir.Node) -> _Moved | Declined:
        """What moves the numbers of a convolution, for this activation alone."""
        mover = required(node.inputs[0], node).producer()
        if mover is None or not _moves(mover):
            return Declined("it reads no DepthToSpace or Slice")
        if only_user(mover.outputs[0]) is not node:
            return Declined("something else reads what is moved, too")
        if any(value is not None and constant_of(value) is None for value in node.inputs[1:]):
            return Declined("a bound is not constant")
        shape = static_shape(mover.inputs[0])
        if shape is None or not _of_convolution(mover):
            return Declined("what is moved is made by no convolution")
        return _Moved(mover, shape)

    def replace(self, op: Any, node: ir.Node, found: _Moved) -> ir.Value:
        """The activation first."""
        active = again(op, node, [found.mover.inputs[0], *node.inputs[1:]], found.shape)
        made = static_shape(node.outputs[0]) or ()
        return again(op, found.mover, [active, *found.mover.inputs[1:]], made)


def _moves(node: ir.Node) -> bool:
    return is_op(node, "DepthToSpace") or is_op(node, "Slice")


def _of_convolution(node: ir.Node | None) -> bool:
    while node is not None and _moves(node):
        node = None if node.inputs[0] is None else node.inputs[0].producer()
    return is_op(node, "Conv")
