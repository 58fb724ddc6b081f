"""Several selections from one value share the range that covers them, so that `sink_select` can move it.

A distilled DeiT reads its CLS and its distillation token: two selections become one of two tokens.
"""

from typing import Any

import onnx_ir as ir

from vit_edge.host.rewrite.composites import SELECT, is_composite
from vit_edge.host.rewrite.rule import NodeRule, matched
from vit_edge.host.rewrite.values import integer, select, static_shape, users


class ShareSelect(NodeRule):
    """SelectTokens(x; i), SelectTokens(x; j) -> SelectTokens(SelectTokens(x; i..j); …)."""

    ROOTS = ("vit_edge::SelectTokens",)
    FIRES = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[8,2] x) => (float[1,2] y, float[1,2] z) <float[8,2] a> {
            a = Gelu(x)
            y = vit_edge.SelectTokens<start=0, stop=1>(a)
            z = vit_edge.SelectTokens<start=1, stop=2>(a)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20, "vit_edge": 1]>
        g (float[8,2] x) => (float[1,2] y, float[8,2] a) {
            a = Gelu(x)
            y = vit_edge.SelectTokens<start=0, stop=1>(a)
        }"""

    def accept_node(self, node: ir.Node) -> str | None:
        """Others select from the same value too, nothing else reads it, and the range is worth it."""
        x = matched(node.inputs[0], node)
        found = _covering(x)
        if found is None:
            return "not every reader is a selection"
        start, stop = found
        if (start, stop) == (integer(node, "start"), integer(node, "stop")):
            return "the selection covers all others already"
        if 2 * (stop - start) > matched(static_shape(x), node)[0]:
            return "the selections lie far apart"
        return None

    def rewrite_node(self, op: Any, node: ir.Node) -> ir.Value:
        """Select the covering range, then this one from it."""
        x = matched(node.inputs[0], node)
        start, stop = matched(_covering(x), node)
        shared = select(op, x, start, stop)
        return select(op, shared, integer(node, "start") - start, integer(node, "stop") - start)


def _covering(x: ir.Value) -> tuple[int, int] | None:
    readers = users(x)
    if x.is_graph_output() or not all(is_composite(reader, SELECT) for reader in readers):
        return None
    return min(integer(r, "start") for r in readers), max(integer(r, "stop") for r in readers)
