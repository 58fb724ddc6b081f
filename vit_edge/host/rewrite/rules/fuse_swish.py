"""x * sigmoid(alpha * x) becomes one Swish: SiLU, and QuickGELU with alpha 1.702.

Source: Ramachandran et al. 2017 (Swish); Hendrycks & Gimpel 2016, section 2 (GELU's sigmoid form, which CLIP
has); ONNX Swish, opset 24.
"""

from typing import Any, NamedTuple

import onnx_ir as ir

from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.rule import Declined, NodeRule
from vit_edge.host.rewrite.values import scalar_of, static_shape, swish


class _Swish(NamedTuple):
    x: ir.Value
    alpha: float


class FuseSwish(NodeRule[_Swish]):
    """Mul(x, Sigmoid(Mul(x, alpha))) -> Swish(x; alpha)."""

    ROOTS = ("Mul",)
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2,3] x) => (float[2,3] y) <float alpha = {1.702}, float[2,3] a, float[2,3] b> {
            a = Mul(x, alpha)
            b = Sigmoid(a)
            y = Mul(x, b)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2,3] x, float[2,3] z) => (float[2,3] y) <float[2,3] b> {
            b = Sigmoid(z)
            y = Mul(x, b)
        }"""

    def find(self, node: ir.Node) -> _Swish | Declined:
        """One factor is the sigmoid of a multiple of the other."""
        for x, other in (node.inputs, reversed(node.inputs)):
            sigmoid = None if other is None else other.producer()
            if x is None or sigmoid is None or not is_op(sigmoid, "Sigmoid") or static_shape(x) is None:
                continue
            alpha = _multiple(sigmoid.inputs[0], x)
            if alpha is not None:
                return _Swish(x, alpha)
        return Declined("no factor is the sigmoid of a multiple of the other")

    def replace(self, op: Any, node: ir.Node, found: _Swish) -> ir.Value:
        """One node."""
        return swish(op, found.x, found.alpha)


def _multiple(value: ir.Value | None, x: ir.Value) -> float | None:
    """How many times x a value is."""
    if value is x:
        return 1.0
    node = None if value is None else value.producer()
    if node is None or not is_op(node, "Mul"):
        return None
    for one, other in (node.inputs, reversed(node.inputs)):
        if one is x:
            return scalar_of(other)
    return None
