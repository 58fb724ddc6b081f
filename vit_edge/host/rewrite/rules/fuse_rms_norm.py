"""Rows divided by the root of their mean square become one RmsNorm; `fold_norm_affine` takes the scale in.

Source: Zhang and Sennrich 2019; ONNX RMSNormalization (opset 23), which `prepare` has written out by then.
"""

from typing import Any, ClassVar, NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.rule import Declined, NodeRule
from vit_edge.host.rewrite.rules.fuse_reciprocal import root_under
from vit_edge.host.rewrite.values import over_last, rms_norm, scalar_of, static_shape


class _Rows(NamedTuple):
    x: ir.Value
    columns: int
    epsilon: float


class FuseRmsNorm(NodeRule[_Rows]):
    """Div(x, Sqrt(ReduceMean(x^2) + epsilon)) -> RmsNorm(x, ones; epsilon); also by the root's reciprocal."""

    ROOTS: ClassVar[tuple[str, ...]] = ("Div", "Mul")
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2,4] x) => (float[2,4] y)
        <int64[1] axes = {-1}, float two = {2.0}, float eps = {0.001}, float[2,1] d> {
            square = Pow(x, two)
            mean = ReduceMean<keepdims=1>(square, axes)
            shifted = Add(mean, eps)
            d = Sqrt(shifted)
            y = Div(x, d)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2,4] x, float[2,4] z) => (float[2,4] y)
        <int64[1] axes = {-1}, float two = {2.0}, float eps = {0.001}, float[2,1] d> {
            square = Pow(z, two)
            mean = ReduceMean<keepdims=1>(square, axes)
            shifted = Add(mean, eps)
            d = Sqrt(shifted)
            y = Div(x, d)
        }"""

    def find(self, node: ir.Node) -> _Rows | Declined:
        """The rows, and what is added to their mean square."""
        for rows, root in self._quotients(node):
            epsilon = _epsilon_under(root, rows)
            shape = static_shape(rows)
            if epsilon is not None and shape is not None:
                return _Rows(rows, shape[-1], epsilon)
        return Declined("it is no row over the root of its own mean square")

    @staticmethod
    def _quotients(node: ir.Node) -> list[tuple[ir.Value, ir.Value]]:
        """(dividend, square root) of a quotient, or of a product with one over a root."""
        first, second = node.inputs[0], node.inputs[1]
        if first is None or second is None:
            return []
        if is_op(node, "Div"):
            return [(first, second)]
        roots = ((first, root_under(second)), (second, root_under(first)))
        return [(rows, root) for rows, root in roots if root is not None]

    def replace(self, op: Any, node: ir.Node, found: _Rows) -> ir.Value:
        """One node, its scale all ones."""
        return rms_norm(op, found.x, np.ones(found.columns, np.float32), found.epsilon)


def _epsilon_under(root: ir.Value, x: ir.Value) -> float | None:
    """What Sqrt(mean(x^2) + epsilon) adds, where a value is that of the last axis of x."""
    node = root.producer()
    total = node.inputs[0] if node is not None and is_op(node, "Sqrt") else None
    add = None if total is None else total.producer()
    if add is None or not is_op(add, "Add"):
        return None
    for mean, other in (add.inputs, reversed(add.inputs)):
        epsilon = scalar_of(other)
        if epsilon is not None and mean is not None and _is_mean_square(mean, x):
            return epsilon
    return None


def _is_mean_square(mean: ir.Value, x: ir.Value) -> bool:
    node, shape = mean.producer(), static_shape(x)
    if node is None or not is_op(node, "ReduceMean") or shape is None:
        return False
    last = len(node.inputs) > 1 and over_last(node.inputs[1], len(shape))
    if not last or static_shape(mean) != (*shape[:-1], 1):
        return False
    square = node.inputs[0].producer() if node.inputs[0] is not None else None
    if square is None or square.inputs[0] is not x:
        return False
    if is_op(square, "Pow"):
        return scalar_of(square.inputs[1]) == 2.0
    return is_op(square, "Mul") and square.inputs[1] is x
