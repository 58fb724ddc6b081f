"""An INT8 product whose input has a range for each row becomes RowCodes and a Linear.

The spelling is that of `lower.linear`: each row is divided by its largest magnitude (or value), quantized
with one range for all, multiplied, and scaled back.
"""

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.host.kernels.operators import CODES, ROW, Range, made, shape_of
from vit_edge.host.kernels.read import codes_behind, weight_behind
from vit_edge.host.kernels.rules.raise_product import Product, linear
from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.rule import Declined, NodeRule
from vit_edge.host.rewrite.values import constant_of, only_user, scalar_of, typed

NO_ROWS = Declined("a product with a constant that scales no rows back")


class Rows(NamedTuple):
    """A product, and the rows that are coded for it."""

    product: Product
    x: ir.Value
    reach: Range


class RaiseRowProduct(NodeRule[Rows]):
    """MatMul(DQ(Q(x / r)), DQ(W)) * r (+ b) -> Linear(RowCodes(x), W, b)."""

    ROOTS = ("Mul", "Add")
    FIRES = """<ir_version: 9, opset_import: ["": 20]>
        g (float[5,4] x) => (float[5,2] y)
        <float s = {0.0078431377}, uint8 z = {128},
         int8[4,2] w = {1, 2, -3, 4, 5, -6, 7, 8}, float[2] ws = {0.25, 0.5},
         int8[2] wz = {0, 0}, float[2] b = {0.5, -0.5}, int64[1] axes = {-1}, float floor = {0.000001},
         float[5,4] m, float[5,1] top, float[5,1] r, float[5,1] i, float[5,4] u, uint8[5,4] q, float[5,4] d,
         float[4,2] wf, float[5,2] p, float[5,2] back> {
            m = Abs(x)
            top = ReduceMax<keepdims=1>(m, axes)
            r = Max(top, floor)
            i = Reciprocal(r)
            u = Mul(x, i)
            q = QuantizeLinear(u, s, z)
            d = DequantizeLinear(q, s, z)
            wf = DequantizeLinear<axis=1>(w, ws, wz)
            p = MatMul(d, wf)
            back = Mul(p, r)
            y = Add(back, b)
        }"""
    HOLDS = """<ir_version: 9, opset_import: ["": 20]>
        g (float[5,4] x, float[5,1] r) => (float[5,2] y)
        <float s = {0.0078431377}, uint8 z = {128},
         int8[4,2] w = {1, 2, -3, 4, 5, -6, 7, 8}, float[2] ws = {0.25, 0.5},
         int8[2] wz = {0, 0}, float[5,4] u, uint8[5,4] q, float[5,4] d, float[4,2] wf, float[5,2] p> {
            u = Mul(x, r)
            q = QuantizeLinear(u, s, z)
            d = DequantizeLinear(q, s, z)
            wf = DequantizeLinear<axis=1>(w, ws, wz)
            p = MatMul(d, wf)
            y = Mul(p, r)
        }"""

    def find(self, node: ir.Node) -> Rows | Declined:
        """The product, its bias where there is one, and how rows are coded."""
        if is_op(node, "Mul"):
            reader = only_user(node.outputs[0])
            if reader is not None and is_op(reader, "Add") and self._bias(reader) is not None:
                return NO_ROWS  # the Add takes it along
            return self._rows(node)
        bias, back = self._bias(node), node.inputs[0]
        if bias is None or back is None or not is_op(back, "Mul") or only_user(back) is None:
            return NO_ROWS
        scaled = back.producer()
        found = NO_ROWS if scaled is None else self._rows(scaled)
        if isinstance(found, Declined) or bias.shape != found.product.scale.shape:
            return NO_ROWS
        return found._replace(product=found.product._replace(bias=bias.astype(np.float32)))

    @staticmethod
    def _bias(node: ir.Node) -> Any:
        bias = constant_of(node.inputs[1])
        return bias if bias is not None and bias.ndim == 1 else None

    def _rows(self, node: ir.Node) -> Rows | Declined:
        """`node` is the Mul that scales the product back."""
        product, divisor = node.inputs[:2]
        matmul = None if product is None or not is_op(product, "MatMul") else product.producer()
        if matmul is None or only_user(matmul.outputs[0]) is None or divisor is None:
            return NO_ROWS
        codes, weight = codes_behind(matmul.inputs[0]), weight_behind(matmul.inputs[1])
        unit = None if codes is None else codes.real
        if codes is None or codes.signed or weight is None or unit is None:
            return NO_ROWS
        reach = _reach(divisor, unit)
        if reach is None:
            return Declined("rows are scaled back by something else than what they were divided by")
        x, floor, one_sided = reach
        start = np.zeros(weight[1].shape, np.int32)
        made_of = Product(codes, *weight, start)
        return Rows(made_of, x, Range(codes.scale, codes.zero_point, True, floor, one_sided))

    def replace(self, op: Any, node: ir.Node, found: Rows) -> ir.Value:
        """The codes of rows, and the Linear."""
        reach = found.reach.attributes
        codes, rows = made(op, ROW + CODES, [found.x], reach, 2)
        typed(codes, list(shape_of(found.x)), ir.DataType.UINT8)
        coded = found.product.codes._replace(value=codes)
        return linear(op, node, found.product._replace(codes=coded, rows=rows))


def _reach(divisor: ir.Value, unit: ir.Value) -> tuple[ir.Value, float, bool] | None:
    """(x, floor, one_sided) where unit is x / divisor and divisor is max(floor, largest of each row)."""
    scaled, most = unit.producer(), divisor.producer()
    if not is_op(scaled, "Mul") or not is_op(most, "Max") or scaled is None or most is None:
        return None
    x, inverse = scaled.inputs[:2]
    reciprocal = None if inverse is None else inverse.producer()
    if (
        x is None
        or reciprocal is None
        or not is_op(reciprocal, "Reciprocal")
        or reciprocal.inputs[0] is not divisor
    ):
        return None
    floor, largest = scalar_of(most.inputs[1]), most.inputs[0]
    reduced = None if largest is None or not is_op(largest, "ReduceMax") else largest.producer()
    if floor is None or floor <= 0 or reduced is None or scalar_of(reduced.inputs[1]) != -1:
        return None
    if reduced.inputs[0] is x:
        return x, floor, True
    magnitude = None if reduced.inputs[0] is None else reduced.inputs[0].producer()
    absolute = magnitude is not None and is_op(magnitude, "Abs") and magnitude.inputs[0] is x
    return (x, floor, False) if absolute else None
