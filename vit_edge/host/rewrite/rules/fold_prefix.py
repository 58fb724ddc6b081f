"""Constant tokens joined to Embed (CLS, distillation, register tokens) become prefix rows of its table.

Source: Dosovitskiy et al. 2021 (CLS); Touvron et al. 2021 (distillation token); Darcet et al. 2024
(registers, which stand between the CLS token and the patches).
"""

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
    reshape,
    static_shape,
)


class FoldPrefix(NodeRule):
    """Concat of constants and consecutive rows of one Embed -> Embed with a longer prefix."""

    ROOTS = ("Concat",)
    FIRES = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[1,1,2,4] x) => (float[1,3,2] y)
        <float[4,2] w = {1., 2., 3., 4., 5., 6., 7., 8.}, float[2,2] table = {1., 2., 3., 4.},
         float[1,1,2] cls = {0.5, 0.25}, int64[3] shape = {1, 2, 2}, float[2,2] e, float[1,2,2] r> {
            e = vit_edge.Embed<patch=[2, 2], prefix=0>(x, w, table)
            r = Reshape(e, shape)
            y = Concat<axis=1>(cls, r)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[1,1,2,4] x) => (float[1,3,2] y)
        <float[4,2] w = {1., 2., 3., 4., 5., 6., 7., 8.}, float[2,2] table = {1., 2., 3., 4.},
         float[1,1,2] last = {0.5, 0.25}, int64[3] shape = {1, 2, 2}, float[2,2] e, float[1,2,2] r> {
            e = vit_edge.Embed<patch=[2, 2], prefix=0>(x, w, table)
            r = Reshape(e, shape)
            y = Concat<axis=1>(r, last)
        }"""

    def accept_node(self, node: ir.Node) -> str | None:
        """Every part is constant or rows of the same Embed, all its rows in order, the patches last."""
        found = _match(node)
        return found if isinstance(found, str) else None

    def rewrite_node(self, op: Any, node: ir.Node) -> ir.Value:
        """Write the new table."""
        found = _match(node)
        if isinstance(found, str):
            raise ValueError(f"{node.name}: rewrite called on a node that was not accepted: {found}")
        source, table, prefix = found
        image, weight, _ = linear_parts(source)
        patch = integers(source, "patch")
        made = embed(op, image, weight, table, (patch[0], patch[1]), prefix)
        return reshape(op, made, matched(static_shape(node.outputs[0]), node))


def _match(node: ir.Node) -> tuple[ir.Node, Array, int] | str:
    """(the Embed, its new table, its new prefix length), or why not."""
    shape = static_shape(node.outputs[0])
    if shape is None or len(shape) < 2:
        return "the shape is not static"
    axis = integer(node, "axis") % len(shape)
    if axis != len(shape) - 2 or any(size != 1 for size in shape[:axis]):
        return "the Concat is not along the tokens of one image"
    source: ir.Node | None = None
    rows: list[Array] = []
    seen = 0
    for value in node.inputs:
        array = constant_of(value)
        if array is not None:
            rows.append(array.reshape(-1, shape[-1]))
            continue
        found = trace(matched(value, node), through=(*RESHAPING, "Slice", "SelectTokens"))
        maker = None if found is None else found.source.producer()
        if found is None or not is_composite(maker, EMBED) or maker is None or source not in (None, maker):
            return "a part is neither constant nor rows of one Embed"
        source = maker
        taken = found.index.size // shape[-1]
        if not np.array_equal(
            found.index.reshape(-1), np.arange(seen * shape[-1], (seen + taken) * shape[-1])
        ):
            return "the rows of the Embed are not taken in order"
        rows.append(matched(constant_of(maker.inputs[2]), node)[seen : seen + taken])
        seen += taken
    if source is None or seen != matched(constant_of(source.inputs[2]), node).shape[0]:
        return "rows of the Embed are missing"
    table = np.concatenate(rows)
    patches = seen - integer(source, "prefix")
    if len(rows[-1]) < patches or constant_of(node.inputs[-1]) is not None:
        return "constant tokens stand behind or among the patches"
    return source, table, len(table) - patches
