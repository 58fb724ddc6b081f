"""A difference times the reciprocal of a square root becomes their quotient, the same but for one rounding.

`torch.rsqrt` is exported as Sqrt and Reciprocal, or as a one divided by Sqrt. A layer normalization that is
written out with it, as torch decomposes its own, is then the one that `fuse_layer_normalization` knows. Other
products with reciprocals stay: a product for each element is cheaper than a division.
"""

from typing import Any, ClassVar, NamedTuple

import onnx_ir as ir

from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.rule import Declined, NodeRule
from vit_edge.host.rewrite.values import scalar_of, static_shape, typed


class _Quotient(NamedTuple):
    dividend: ir.Value
    divisor: ir.Value
    shape: tuple[int, ...]


class FuseReciprocal(NodeRule[_Quotient]):
    """Mul(a - b, Reciprocal(Sqrt(v))), Mul(a - b, Div(1, Sqrt(v))) -> Div(a - b, Sqrt(v))."""

    ROOTS: ClassVar[tuple[str, ...]] = ("Mul",)
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2,3] x, float[2,1] v) => (float[2,3] y)
        <float[2,3] d, float[2,1] e, float[2,1] s, float[2,1] r> {
            d = Sub(x, v)
            e = Exp(v)
            s = Sqrt(e)
            r = Reciprocal(s)
            y = Mul(d, r)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2,3] x, float[2,1] v) => (float[2,3] y)
        <float two = {2.0}, float[2,3] d, float[2,1] e, float[2,1] s, float[2,1] r> {
            d = Sub(x, v)
            e = Exp(v)
            s = Sqrt(e)
            r = Div(two, s)
            y = Mul(d, r)
        }"""

    def find(self, node: ir.Node) -> _Quotient | Declined:
        """(the difference, the square root, the shape of the product)."""
        shape = static_shape(node.outputs[0])
        if shape is None:
            return Declined("the product has no static shape")
        left, right = node.inputs[0], node.inputs[1]
        for dividend, reciprocal in ((left, right), (right, left)):
            divisor = root_under(reciprocal)
            if dividend is not None and divisor is not None and is_op(dividend, "Sub"):
                return _Quotient(dividend, divisor, shape)
        return Declined("it is no difference times one divided by a square root")

    def replace(self, op: Any, node: ir.Node, found: _Quotient) -> ir.Value:
        """One division."""
        made = op.Div(found.dividend, found.divisor)
        return typed(made, found.shape, node.outputs[0].dtype or ir.DataType.FLOAT)


def root_under(value: ir.Value | None) -> ir.Value | None:
    """The square root y of Reciprocal(y), or of Div(1, y) where the one does not change its shape."""
    node = None if value is None else value.producer()
    if node is None:
        return None
    if is_op(node, "Reciprocal"):
        divisor = node.inputs[0]
    elif is_op(node, "Div") and scalar_of(node.inputs[0]) == 1.0:
        divisor = node.inputs[1]
    else:
        return None
    shape = static_shape(divisor)
    same = shape is not None and shape == static_shape(value)
    return divisor if same and is_op(divisor, "Sqrt") else None
