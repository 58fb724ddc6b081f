"""The non-linearity behind a Linear, which alone reads it, becomes the Linear's own."""

from typing import Any, NamedTuple

import onnx_ir as ir

from vit_edge.host.kernels.operators import LINEAR, Activation, again, sole
from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.rule import Declined, NodeRule
from vit_edge.host.rewrite.values import integer, scalar_of, users
from vit_edge.spec import KERNELS_DOMAIN


class Behind(NamedTuple):
    """A Linear and what follows it."""

    linear: ir.Node
    activation: Activation
    alpha: float = 1.0


class MergeActivation(NodeRule[Behind]):
    """Gelu(Linear(x)), Relu(Linear(x)) or Linear(x) * Sigmoid(…) -> Linear(x; activation)."""

    ROOTS = ("Gelu", "Relu", "Mul")
    FIRES = """<ir_version: 9, opset_import: ["": 20, "vit_edge.kernels": 1]>
        g (uint8[5,4] x) => (float[5,2] y)
        <int8[4,2] w = {1, 2, -3, 4, 5, -6, 7, 8},
         float[2] ws = {0.25, 0.5}, int32[2] b = {3, -4}, float[5,2] l> {
            l = vit_edge.kernels.Linear<input_scale=0.05, input_zero_point=7>(x, , , w, ws, b)
            y = Gelu(l)
        }"""
    HOLDS = """<ir_version: 9, opset_import: ["": 20, "vit_edge.kernels": 1]>
        g (uint8[5,4] x) => (float[5,2] y, float[5,2] l)
        <int8[4,2] w = {1, 2, -3, 4, 5, -6, 7, 8},
         float[2] ws = {0.25, 0.5}, int32[2] b = {3, -4}> {
            l = vit_edge.kernels.Linear<input_scale=0.05, input_zero_point=7>(x, , , w, ws, b)
            y = Gelu(l)
        }"""

    def find(self, node: ir.Node) -> Behind | Declined:
        """The Linear, and which non-linearity it is."""
        if is_op(node, "Mul"):
            return _swish(node)
        linear = sole(node.inputs[0], LINEAR)
        if linear is None or integer(linear, "activation") or linear.inputs[2] is not None:
            return Declined("a non-linearity that is not behind a Linear alone")
        if is_op(node, "Relu"):
            return Behind(linear, Activation.RELU)
        approximate = node.attributes.get("approximate")
        tanh = approximate is not None and approximate.as_string() == "tanh"
        return Behind(linear, Activation.GELU_TANH if tanh else Activation.GELU)

    def replace(self, op: Any, node: ir.Node, found: Behind) -> ir.Value:
        """The same Linear with a non-linearity."""
        return again(
            op, found.linear, found.linear.inputs, activation=int(found.activation), alpha=found.alpha
        )


def _swish(node: ir.Node) -> Behind | Declined:
    """X * Sigmoid(alpha * x), x being a Linear that nothing else reads."""
    x, gate = node.inputs[:2]
    sigmoid = None if gate is None or not is_op(gate, "Sigmoid") else gate.producer()
    if x is None or sigmoid is None or not is_op(x, LINEAR, KERNELS_DOMAIN) or x.is_graph_output():
        return Declined("a product that is no Swish")
    inner, alpha = sigmoid.inputs[0], 1.0
    if inner is not x:
        scaled = None if inner is None or not is_op(inner, "Mul") else inner.producer()
        factor = None if scaled is None else scalar_of(scaled.inputs[1])
        if scaled is None or factor is None or scaled.inputs[0] is not x or factor <= 0:
            return Declined("a product that is no Swish")
        inner, alpha = x, factor
    linear = x.producer()
    if linear is None or len(users(x)) != 2 or integer(linear, "activation") or linear.inputs[2] is not None:
        return Declined("a Swish of what others read too")
    return Behind(linear, Activation.SWISH, alpha)
