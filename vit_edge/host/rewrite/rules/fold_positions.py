"""A constant table added behind Embed (the positional embedding) goes into Embed's own table."""

from typing import Any

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.composites import EMBED, is_composite
from vit_edge.host.rewrite.layout import RESHAPING, trace
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import (
    constant_of,
    embed,
    integer,
    integers,
    linear_parts,
    only_user,
    reshape,
    static_shape,
)


class FoldPositions(NodeRule[tuple[ir.Node, Array]]):
    """Embed(image, W, table) + positions -> Embed(image, W, table + positions)."""

    ROOTS = ("Add",)
    FIRES = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[1,1,2,4] x) => (float[1,2,2] y)
        <float[4,2] w = {1., 2., 3., 4., 5., 6., 7., 8.}, float[2,2] table = {1., 2., 3., 4.},
         float[1,2,2] positions = {0.5, 0.25, 0.125, 1.}, int64[3] shape = {1, 2, 2},
         float[2,2] e, float[1,2,2] r> {
            e = vit_edge.Embed<patch=[2, 2], prefix=0>(x, w, table)
            r = Reshape(e, shape)
            y = Add(r, positions)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[1,1,2,4] x, float[2,2] positions) => (float[2,2] y)
        <float[4,2] w = {1., 2., 3., 4., 5., 6., 7., 8.}, float[2,2] table = {1., 2., 3., 4.},
         float[2,2] e> {
            e = vit_edge.Embed<patch=[2, 2], prefix=0>(x, w, table)
            y = Add(e, positions)
        }"""

    def find(self, node: ir.Node) -> tuple[ir.Node, Array] | Declined:
        """(an Embed that nothing else reads, the constant as (tokens, dim))."""
        result = static_shape(node.outputs[0])
        for made, other in ((node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])):
            positions, shape = constant_of(other), static_shape(made)
            if made is None or positions is None or only_user(made) is None:
                continue
            chain = trace(made, through=RESHAPING)
            if chain is None or shape is None or shape != result or not is_composite(chain.source, EMBED):
                continue
            table = np.broadcast_to(positions, shape).reshape(static_shape(chain.source) or ())
            source = chain.source.producer()
            if source is not None and only_user(chain.source) is not None:
                return source, table
        return Declined("no operand is an Embed with a constant beside it")

    def replace(self, op: Any, node: ir.Node, found: tuple[ir.Node, Array]) -> ir.Value:
        """Add the tables now."""
        source, positions = found
        image, weight, table = linear_parts(source)
        total = required(table, node) + positions
        patch = integers(source, "patch")
        made = embed(op, image, weight, total, (patch[0], patch[1]), integer(source, "prefix"))
        return reshape(op, made, required(static_shape(node.outputs[0]), node))
