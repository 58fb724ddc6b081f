"""Remove arithmetic that changes nothing: x + 0, x - 0, x * 1, x / 1, casts to the same type, known choices.

Folding constants leaves these behind: an attention mask that turned out to be all zeros, a rescale by one, a
choice between a value and what stands for fully masked rows, of which there are none.
"""

from typing import Any, ClassVar

import onnx_ir as ir

from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.rule import Declined, NodeRule
from vit_edge.host.rewrite.values import constant_of, integer, static_shape


class RemoveNeutralArithmetic(NodeRule[ir.Value]):
    """x (+ 0, - 0, * 1, / 1), Where(never, y, x) -> x, where broadcasting does not change the shape."""

    ROOTS: ClassVar[tuple[str, ...]] = ("Add", "Sub", "Mul", "Div", "Cast", "Where")
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2,3] x) => (float[2,3] y) <float[1,3] zeros = {0.0, 0.0, 0.0}> {
            z = Add(x, zeros)
            y = Relu(z)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,3] x) => (float[2,3] y) <float[2,3] zeros = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0}> {
            z = Add(x, zeros)
            y = Relu(z)
        }"""

    def find(self, node: ir.Node) -> ir.Value | Declined:
        """The operand that has the shape of the result, where the other is neutral."""
        kept = _kept_operand(node)
        return kept if kept is not None else Declined("no operand is neutral")

    def replace(self, op: Any, node: ir.Node, found: ir.Value) -> ir.Value:
        """The operand that stays."""
        made: ir.Value = op.Identity(found)
        return made


def _kept_operand(node: ir.Node) -> ir.Value | None:
    if is_op(node, "Cast"):
        same = node.inputs[0] is not None and node.inputs[0].dtype == integer(node, "to", -1)
        return node.inputs[0] if same else None
    if is_op(node, "Where"):
        return _chosen(node)
    left, right = node.inputs[0], node.inputs[1]
    neutral = 0.0 if node.op_type in ("Add", "Sub") else 1.0
    orders = [(left, right), (right, left)] if node.op_type in ("Add", "Mul") else [(left, right)]
    for kept, other in orders:
        array = constant_of(other)
        if array is None or kept is None or not bool((array == neutral).all()):
            continue
        if _stays(kept, node):
            return kept
    return None


def _chosen(node: ir.Node) -> ir.Value | None:
    """What Where takes everywhere, where that is known."""
    condition = constant_of(node.inputs[0])
    if condition is None or (condition.any() and not condition.all()):
        return None
    kept = node.inputs[1 if condition.all() else 2]
    return kept if kept is not None and _stays(kept, node) else None


def _stays(kept: ir.Value, node: ir.Node) -> bool:
    """Whether a value has the shape of what a node makes."""
    return static_shape(kept) is not None and static_shape(kept) == static_shape(node.outputs[0])
