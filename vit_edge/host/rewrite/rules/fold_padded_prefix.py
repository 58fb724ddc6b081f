"""Zero rows padded in front of Embed become prefix rows of its table: the canonical graph's own spelling."""

from typing import Any

import numpy as np
import onnx_ir as ir

from vit_edge.host.rewrite.composites import EMBED, is_composite
from vit_edge.host.rewrite.layout import RESHAPING, trace
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import (
    constant_of,
    embed,
    integer,
    integers,
    linear_parts,
    reshape,
    static_shape,
)


class FoldPaddedPrefix(NodeRule[tuple[ir.Node, int]]):
    """Pad(Embed(image, W, table), rows in front) -> Embed(image, W, [0; table])."""

    ROOTS = ("Pad",)
    FIRES = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[1,1,2,4] x) => (float[1,3,2] y)
        <float[4,2] w = {1., 2., 3., 4., 5., 6., 7., 8.}, float[2,2] table = {1., 2., 3., 4.},
         int64[6] pads = {0, 1, 0, 0, 0, 0}, int64[3] shape = {1, 2, 2}, float[2,2] e, float[1,2,2] r> {
            e = vit_edge.Embed<patch=[2, 2], prefix=0>(x, w, table)
            r = Reshape(e, shape)
            y = Pad(r, pads)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[1,1,2,4] x) => (float[1,3,2] y)
        <float[4,2] w = {1., 2., 3., 4., 5., 6., 7., 8.}, float[2,2] table = {1., 2., 3., 4.},
         int64[6] pads = {0, 0, 0, 0, 1, 0}, int64[3] shape = {1, 2, 2}, float[2,2] e, float[1,2,2] r> {
            e = vit_edge.Embed<patch=[2, 2], prefix=0>(x, w, table)
            r = Reshape(e, shape)
            y = Pad(r, pads)
        }"""

    def find(self, node: ir.Node) -> tuple[ir.Node, int] | Declined:
        """(an Embed without a prefix, how many zero rows are padded in front of its tokens, nowhere else)."""
        mode = node.attributes.get("mode")
        if mode is not None and mode.as_string() != "constant":
            return Declined("the padding is not constant")
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            fill = constant_of(node.inputs[2])
            if fill is None or fill.any():
                return Declined("the padding is not zero")
        if len(node.inputs) > 3:
            return Declined("the padded axes are listed")
        source, rows = _embed(node), _rows_in_front(node)
        if source is None or not rows:
            return Declined("not rows in front of a patch embedding without prefix")
        return source, rows

    def replace(self, op: Any, node: ir.Node, found: tuple[ir.Node, int]) -> ir.Value:
        """Put zero rows in front of the table."""
        source, rows = found
        image, weight, table = linear_parts(source)
        padded = np.pad(required(table, node), ((rows, 0), (0, 0)))
        patch = integers(source, "patch")
        made = embed(op, image, weight, padded, (patch[0], patch[1]), rows)
        return reshape(op, made, required(static_shape(node.outputs[0]), node))


def _embed(node: ir.Node) -> ir.Node | None:
    """The Embed without a prefix whose tokens, in their order, are padded."""
    found = None if node.inputs[0] is None else trace(node.inputs[0], through=RESHAPING)
    source = None if found is None else found.source.producer()
    if found is None or source is None or not is_composite(source, EMBED) or integer(source, "prefix"):
        return None
    return source if found.keeps_order() else None


def _rows_in_front(node: ir.Node) -> int:
    """How many rows are padded in front of all others; 0 where anything else is padded too."""
    pads, shape = constant_of(node.inputs[1]), static_shape(node.inputs[0])
    if pads is None or shape is None or len(shape) < 2 or pads.size != 2 * len(shape):
        return 0
    elsewhere = np.delete(pads, len(shape) - 2)
    return int(pads[len(shape) - 2]) if not elsewhere.any() else 0
