"""Constant tokens joined to Embed (CLS, distillation, register tokens) become prefix rows of its table.

Source: Dosovitskiy et al. 2021 (CLS); Touvron et al. 2021 (distillation token); Darcet et al. 2024
(registers, which stand between the CLS token and the patches).
"""

from typing import Any, NamedTuple

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
    reshape,
    static_shape,
)


class _Prefixed(NamedTuple):
    source: ir.Node  # the Embed
    table: Array  # its new table
    prefix: int  # and how many rows of it stand in front of the patches


class FoldPrefix(NodeRule[_Prefixed]):
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

    def find(self, node: ir.Node) -> _Prefixed | Declined:
        """Every part is constant or rows of the same Embed, all its rows in order, the patches last."""
        shape = static_shape(node.outputs[0])
        if shape is None or len(shape) < 2:
            return Declined("the shape is not static")
        axis = integer(node, "axis") % len(shape)
        if axis != len(shape) - 2 or any(size != 1 for size in shape[:axis]):
            return Declined("the Concat is not along the tokens of one image")
        joined = _joined(node, shape[-1])
        if isinstance(joined, Declined):
            return joined
        source, rows, seen = joined
        if source is None or seen != required(constant_of(source.inputs[2]), node).shape[0]:
            return Declined("rows of the Embed are missing")
        table = np.concatenate(rows)
        patches = seen - integer(source, "prefix")
        if len(rows[-1]) < patches or constant_of(node.inputs[-1]) is not None:
            return Declined("constant tokens stand behind or among the patches")
        return _Prefixed(source, table, len(table) - patches)

    def replace(self, op: Any, node: ir.Node, found: _Prefixed) -> ir.Value:
        """Write the new table."""
        source, table, prefix = found
        image, weight, _ = linear_parts(source)
        patch = integers(source, "patch")
        made = embed(op, image, weight, table, (patch[0], patch[1]), prefix)
        return reshape(op, made, required(static_shape(node.outputs[0]), node))


def _joined(node: ir.Node, width: int) -> tuple[ir.Node | None, list[Array], int] | Declined:
    """(the Embed, the rows of each part, how many of the Embed's rows they are) of a Concat."""
    source: ir.Node | None = None
    rows: list[Array] = []
    seen = 0
    for value in node.inputs:
        array = constant_of(value)
        if array is not None:
            rows.append(array.reshape(-1, width))
            continue
        chain = trace(required(value, node), through=(*RESHAPING, "Slice", "SelectTokens"))
        maker = None if chain is None else chain.source.producer()
        if chain is None or not is_composite(maker, EMBED) or maker is None or source not in (None, maker):
            return Declined("a part is neither constant nor rows of one Embed")
        source = maker
        taken = chain.index.size // width
        if not np.array_equal(chain.index.reshape(-1), np.arange(seen * width, (seen + taken) * width)):
            return Declined("the rows of the Embed are not taken in order")
        rows.append(required(constant_of(maker.inputs[2]), node)[seen : seen + taken])
        seen += taken
    return source, rows, seen
