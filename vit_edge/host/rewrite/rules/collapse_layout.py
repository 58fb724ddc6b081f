"""Collapse chains of Reshape, Transpose, Squeeze, Unsqueeze and Flatten that keep the order of the elements.

A Transpose that only moves dimensions of size one, or a chain whose parts undo one another, is one Reshape,
or nothing at all. What the chain does is found by running it on element positions (`layout.trace`).
"""

from typing import Any, ClassVar

import onnx_ir as ir

from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.layout import REORDERING, Trace, trace
from vit_edge.host.rewrite.rule import Declined, NodeRule
from vit_edge.host.rewrite.values import reshape, static_shape


class CollapseLayout(NodeRule[tuple[ir.Value, tuple[int, ...]]]):
    """An order-keeping chain of layout operators -> one Reshape, or the source itself."""

    ROOTS: ClassVar[tuple[str, ...]] = tuple(kind for kind in REORDERING if kind != "Identity")
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,2,3] x) => (float[2,3] y) <int64[2] shape = {2, 3},
         float[2,1,3] a> {
            a = Transpose<perm=[1, 0, 2]>(x)
            b = Reshape(a, shape)
            y = Relu(b)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2,2,3] x) => (float[4,3] y) <int64[2] shape = {4, 3},
         float[2,2,3] a> {
            a = Transpose<perm=[1, 0, 2]>(x)
            b = Reshape(a, shape)
            y = Relu(b)
        }"""

    def find(self, node: ir.Node) -> tuple[ir.Value, tuple[int, ...]] | Declined:
        """(source, shape) where the chain keeps the order and is more than the Reshape in its place."""
        chain, shape = _order_kept(node), static_shape(node.outputs[0])
        if chain is None or shape is None:
            return Declined("the chain moves elements")
        single = is_op(node, "Reshape") and node.inputs[0] is chain.source
        if single and static_shape(chain.source) != shape:
            return Declined("a single Reshape is already the shortest form")
        return chain.source, shape

    def replace(self, op: Any, node: ir.Node, found: tuple[ir.Value, tuple[int, ...]]) -> ir.Value:
        """One Reshape from the source; Identity where the shape is the same (dropped by a later pass)."""
        source, shape = found
        made: ir.Value = op.Identity(source)
        return made if static_shape(source) == shape else reshape(op, source, shape)


def _order_kept(node: ir.Node) -> Trace | None:
    if static_shape(node.outputs[0]) is None or node.inputs[0] is None:
        return None
    whole = trace(node.outputs[0], through=REORDERING)
    if whole is not None and whole.source is not node.outputs[0] and whole.keeps_order():
        return whole
    # the whole chain moves elements, but its last step alone may still be a mere Reshape
    single = trace(node.outputs[0], through=(node.op_type,)) if not is_op(node, "Reshape") else None
    return single if single is not None and single.keeps_order() else None
