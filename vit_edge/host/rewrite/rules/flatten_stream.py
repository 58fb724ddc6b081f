"""Keep the token stream rank 2: operators on the last axis run on (rows, columns), between Reshapes.

`collapse_layout` then removes the Reshapes between neighbours. Rank 2 is what lets onnxruntime fuse each
linear layer into one (integer) Gemm.
"""

import math
from typing import Any, ClassVar

import onnx_ir as ir

from vit_edge.host.rewrite.composites import is_norm, is_op, is_spatial
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import again, constant, constant_of, flatten, integer, reshape, static_shape

ELEMENTWISE = ("Gelu", "Relu", "Tanh", "Sigmoid", "Erf", "Sqrt", "HardSwish")
BINARY = ("Add", "Sub", "Mul", "Div")


class FlattenStream(NodeRule[tuple[int, ...]]):
    """f(x of rank > 2) -> Reshape(f(Reshape(x))) for f on the last axis or elementwise."""

    ROOTS: ClassVar[tuple[str, ...]] = (
        "LayerNormalization",
        "vit_edge::RmsNorm",
        "vit_edge::Swish",
        *ELEMENTWISE,
        *BINARY,
    )
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,3,2] x, float[1,3,2] z) => (float[1,3,2] y) { y = Add(x, z) }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2,3,2] x, float[1,3,2] z) => (float[2,3,2] y) { y = Add(x, z) }"""

    def find(self, node: ir.Node) -> tuple[int, ...] | Declined:
        """The result's shape, where the operands flatten alike.

        They do with the same shape, or as constants that broadcast along the last axis only.
        """
        shape = static_shape(node.outputs[0])
        if shape is None or len(shape) <= 2:
            return Declined("the result is rank 2 already, or its shape is unknown")
        if any(_is_map(value) for value in node.inputs):
            return Declined("it acts on a map, whose last axis is no channel")
        if is_norm(node):
            last = integer(node, "axis", -1) in (-1, len(shape) - 1)
            return shape if last else Declined("the normalization spans more than the last axis")
        if all(_flattens(value, shape) for value in node.inputs):
            return shape
        return Declined("an operand broadcasts along another axis than the last")

    def replace(self, op: Any, node: ir.Node, found: tuple[int, ...]) -> ir.Value:
        """Flatten the operands, apply, restore the shape."""
        shape = found
        if is_norm(node):
            operands = [flatten(op, required(node.inputs[0], node)), *node.inputs[1:]]
        else:
            operands = [_flat_operand(op, required(value, node), shape) for value in node.inputs]
        rows = math.prod(shape[:-1])
        flat = again(op, node, operands, (rows, shape[-1]), without="axis")
        return reshape(op, flat, shape)


def _is_map(value: ir.Value | None) -> bool:
    """Whether a value is made by an operator on maps, or elementwise of what is, or cut."""
    node = None if value is None else value.producer()
    while node is not None and any(is_op(node, kind) for kind in (*ELEMENTWISE, *BINARY, "Clip", "Slice")):
        computed = [each for each in node.inputs if each is not None and constant_of(each) is None]
        node = computed[0].producer() if computed else None
    return is_spatial(node)


def _flattens(value: ir.Value | None, shape: tuple[int, ...]) -> bool:
    if value is None:
        return False
    own = static_shape(value)
    if own == shape:
        return True
    array = constant_of(value)
    if array is None or array.size == 1:
        return array is not None
    return array.size in (shape[-1], math.prod(shape)) and array.shape[-1:] == shape[-1:]


def _flat_operand(op: Any, value: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    array = constant_of(value)
    if array is None:
        return flatten(op, value)
    if array.size > shape[-1]:
        return constant(op, array.reshape(-1, shape[-1]), "table")
    return constant(op, array.reshape(-1), "vector")
