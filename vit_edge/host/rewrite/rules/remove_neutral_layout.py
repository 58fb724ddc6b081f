"""Remove layout operators that change nothing: Pad by nothing, Gather and Slice of everything in order.

Swin's code pads windows that need no padding; torch exports an adaptive pooling as a mean and a Gather.
"""

from typing import Any, ClassVar, NamedTuple

import onnx_ir as ir

from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.layout import trace
from vit_edge.host.rewrite.rule import Declined, NodeRule
from vit_edge.host.rewrite.values import constant_of, reshape, static_shape


class _Same(NamedTuple):
    x: ir.Value
    shape: tuple[int, ...]


class RemoveNeutralLayout(NodeRule[_Same]):
    """Pad(x, 0), Gather(x, 0..n), Slice(x, 0..n) -> Reshape(x)."""

    ROOTS: ClassVar[tuple[str, ...]] = ("Pad", "Gather", "Slice")
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,3] x) => (float[1,3] y) <int64[4] none = {0, 0, 0, 0}> { y = Pad(x, none) }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,3] x) => (float[1,2] y) <int64[2] some = {1, 2}> { y = Gather<axis=1>(x, some) }"""

    def find(self, node: ir.Node) -> _Same | Declined:
        """(the input, the shape of the result), where every element stays in order."""
        x, shape = node.inputs[0], static_shape(node.outputs[0])
        if x is None or shape is None or static_shape(x) is None or constant_of(x) is not None:
            return Declined("the input is constant, or of no static shape")
        if is_op(node, "Pad"):
            pads = constant_of(node.inputs[1])
            changes = pads is None or bool(pads.any())
            return Declined("the padding is not zero") if changes else _Same(x, shape)
        found = trace(node.outputs[0], through=(node.op_type,))
        if found is None or found.source is not x or not found.keeps_order():
            return Declined("not everything is taken in order")
        return _Same(x, shape)

    def replace(self, op: Any, node: ir.Node, found: _Same) -> ir.Value:
        """The input in the result's shape."""
        same = reshape(op, found.x, found.shape)
        made: ir.Value = op.Identity(same) if same is found.x else same
        return made
