"""Where each row of a Linear's or a normalization's result has a range of its own, that gives the codes."""

from typing import Any, NamedTuple

import onnx_ir as ir

from vit_edge.host.kernels.operators import ATTENTION, CODES, LINEAR, ROW, Range, again, coded
from vit_edge.host.kernels.rules.merge_codes import attributes_of, coded_by
from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.rule import Declined, NodeRule
from vit_edge.host.rewrite.values import integer, number, users
from vit_edge.spec import KERNELS_DOMAIN


class RowsOf(NamedTuple):
    """What gives the values, and how their rows are coded."""

    node: ir.Node
    kind: str
    reach: Range


class MergeRowCodes(NodeRule[RowsOf]):
    """Linear(RowCodes(Linear(x))) -> Linear(LinearCodes(x; by_row)); also of LayerNormalization."""

    ROOTS = (f"{KERNELS_DOMAIN}::{LINEAR}",)
    FIRES = """<ir_version: 9, opset_import: ["": 20, "vit_edge.kernels": 1]>
        g (float[5,4] x) => (float[5,2] y)
        <float[4] g = {1.0, 2.0, 0.5, 1.5}, float[4] h = {0.1, 0.2, 0.3, 0.4},
         int8[4,2] w = {1, 2, -3, 4, 5, -6, 7, 8},
         float[2] ws = {0.25, 0.5}, int32[2] b = {3, -4}, float[5,4] n, uint8[5,4] c, float[5,1] r> {
            n = LayerNormalization<axis=-1, epsilon=0.000001>(x, g, h)
            c, r = vit_edge.kernels.RowCodes<by_row=1, scale=0.0078431377,
                zero_point=128, floor=0.000001, one_sided=0>(n)
            y = vit_edge.kernels.Linear<input_scale=0.0078431377,
                input_zero_point=128>(c, r, , w, ws, b)
        }"""
    HOLDS = """<ir_version: 9, opset_import: ["": 20, "vit_edge.kernels": 1]>
        g (float[5,4] n) => (float[5,2] y)
        <int8[4,2] w = {1, 2, -3, 4, 5, -6, 7, 8},
         float[2] ws = {0.25, 0.5}, int32[2] b = {3, -4}, uint8[5,4] c, float[5,1] r> {
            c, r = vit_edge.kernels.RowCodes<by_row=1, scale=0.0078431377,
                zero_point=128, floor=0.000001, one_sided=0>(n)
            y = vit_edge.kernels.Linear<input_scale=0.0078431377,
                input_zero_point=128>(c, r, , w, ws, b)
        }"""

    def find(self, node: ir.Node) -> RowsOf | Declined:
        """What makes the values whose rows are coded for this Linear alone."""
        codes, rows = node.inputs[0], node.inputs[1]
        if codes is None or rows is None or not is_op(codes, ROW + CODES, KERNELS_DOMAIN):
            return Declined("a Linear that reads no rows with ranges of their own")
        coder = codes.producer()
        if coder is None or users(codes) != [node] or users(rows) != [node]:
            return Declined("codes of rows that several read")
        source = coded_by(coder.inputs[0])
        if source is None or source[1] == ATTENTION:
            return Declined("rows of what gives no codes by row, or others read too")
        reach = Range(
            number(coder, "scale"),
            integer(coder, "zero_point"),
            True,
            number(coder, "floor"),
            bool(integer(coder, "one_sided")),
        )
        return RowsOf(*source, reach)

    def replace(self, op: Any, node: ir.Node, found: RowsOf) -> ir.Value:
        """The Linear behind codes that come with their divisors."""
        codes, rows = coded(op, found.node, found.kind, attributes_of(found.node, found.kind), found.reach)
        return again(op, node, [codes, rows, *node.inputs[2:]])
