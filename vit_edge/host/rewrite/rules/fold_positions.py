"""A constant table added behind Embed (the positional embedding) goes into Embed's own table."""

from typing import Any

import numpy as np
import onnx_ir as ir

from vit_edge.host.rewrite.composites import EMBED, is_composite
from vit_edge.host.rewrite.layout import RESHAPING, trace
from vit_edge.host.rewrite.rule import NodeRule, matched
from vit_edge.host.rewrite.values import (
    Array,
    constant_of,
    embed,
    integer,
    integers,
    linear_parts,
    only_user,
    reshape,
    static_shape,
)


class FoldPositions(NodeRule):
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

    def accept_node(self, node: ir.Node) -> str | None:
        """One side is an Embed that nothing else reads, the other a constant."""
        return None if _split(node) is not None else "no operand is an Embed with a constant beside it"

    def rewrite_node(self, op: Any, node: ir.Node) -> ir.Value:
        """Add the tables now."""
        source, positions = matched(_split(node), node)
        image, weight, table = linear_parts(source)
        total = matched(table, node) + positions
        patch = integers(source, "patch")
        made = embed(op, image, weight, total, (patch[0], patch[1]), integer(source, "prefix"))
        return reshape(op, made, matched(static_shape(node.outputs[0]), node))


def _split(node: ir.Node) -> tuple[ir.Node, Array] | None:
    """(the Embed, the positions as (tokens or 1, dim)) of an Add, or None."""
    for made, other in ((node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])):
        positions = constant_of(other)
        if made is None or positions is None or only_user(made) is None:
            continue
        found = trace(made, through=RESHAPING)
        shape = static_shape(made)
        if (
            found is None
            or shape is None
            or not is_composite(found.source, EMBED)
            or shape != static_shape(node.outputs[0])
        ):
            continue
        table = np.broadcast_to(positions, shape).reshape(static_shape(found.source) or ())
        source = found.source.producer()
        if source is not None and only_user(found.source) is not None:
            return source, table
    return None
