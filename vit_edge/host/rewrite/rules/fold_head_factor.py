"""A factor of each head on the scores of a cosine attention goes into the HeadUnit of its queries.

Source: Liu et al. 2022 (Swin Transformer V2), section 3.2. (c q) k^T = c (q k^T) for a number c of each head.
"""

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.composites import HEAD_UNIT, is_composite, is_op
from vit_edge.host.rewrite.heads import HeadLayout, head_layout, in_layout
from vit_edge.host.rewrite.layout import REORDERING, trace
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import constant_of, head_unit, static_shape, typed


class _Scores(NamedTuple):
    queries: ir.Value
    product: ir.Node | None  # of them and the keys, where the factor stands behind it
    unit: ir.Node
    layout: HeadLayout
    factor: Array  # (heads,)


class FoldHeadFactor(NodeRule[_Scores]):
    """Mul(MatMul(heads(HeadUnit(x, f)), k), c) -> MatMul(heads(HeadUnit(x, f * c)), k); or no product."""

    ROOTS = ("Mul",)
    FIRES = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,4] x, float[1,2,2,3] k) => (float[1,2,3,3] y)
        <float[2] f = {1., 2.}, float[2,1,1] c = {3., 0.5}, int64[4] split = {1, 3, 2, 2},
         float[3,4] u, float[1,3,2,2] r, float[1,2,3,2] q, float[1,2,3,3] s> {
            u = vit_edge.HeadUnit<heads=2>(x, f)
            r = Reshape(u, split)
            q = Transpose<perm=[0, 2, 1, 3]>(r)
            s = MatMul(q, k)
            y = Mul(s, c)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[3,4] x, float[1,2,2,3] k) => (float[1,2,3,3] y)
        <float[3] c = {3., 0.5, 1.}, float[2] f = {1., 2.}, int64[4] split = {1, 3, 2, 2},
         float[3,4] u, float[1,3,2,2] r, float[1,2,3,2] q, float[1,2,3,3] s> {
            u = vit_edge.HeadUnit<heads=2>(x, f)
            r = Reshape(u, split)
            q = Transpose<perm=[0, 2, 1, 3]>(r)
            s = MatMul(q, k)
            y = Mul(s, c)
        }"""

    def find(self, node: ir.Node) -> _Scores | Declined:
        """Queries of length 1, or their product with keys, and one number for each head."""
        for value, other in (node.inputs, reversed(node.inputs)):
            array = constant_of(other)
            if value is not None and array is not None:
                product = value.producer()
                product = product if product is not None and is_op(product, "MatMul") else None
                return _found(value if product is None else required(product.inputs[0], node), product, array)
        return Declined("it is no product with a constant")

    def replace(self, op: Any, node: ir.Node, found: _Scores) -> ir.Value:
        """The scaled queries, or their product."""
        factor = required(constant_of(found.unit.inputs[1]), node) * found.factor
        made = head_unit(op, required(found.unit.inputs[0], node), factor)
        scaled = in_layout(op, made, found.layout, required(static_shape(found.queries), node))
        if found.product is None:
            return scaled
        keys = required(found.product.inputs[1], node)
        return typed(op.MatMul(scaled, keys), required(static_shape(node.outputs[0]), node))


def _found(queries: ir.Value, product: ir.Node | None, array: Array) -> _Scores | Declined:
    found = trace(queries, through=REORDERING)
    unit = None if found is None else found.source.producer()
    shape = None if found is None else static_shape(found.source)
    if found is None or unit is None or shape is None or not is_composite(unit, HEAD_UNIT):
        return Declined("the queries are not brought to length 1, head by head")
    layout = head_layout(found.index, shape)
    if isinstance(layout, Declined):
        return layout
    if not np.array_equal(layout.columns.reshape(-1), np.arange(shape[1])):
        return Declined("the queries are not in the order of their heads")
    if array.size != layout.heads or array.shape[-3:] != (layout.heads, 1, 1):
        return Declined(f"the constant {array.shape} is not one number for each of {layout.heads} heads")
    return _Scores(queries, product, unit, layout, array.reshape(-1))
