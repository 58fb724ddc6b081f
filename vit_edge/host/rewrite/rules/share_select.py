"""Several selections from one value share the range that covers them, so that `sink_select` can move it.

A distilled DeiT reads its CLS and its distillation token: two selections become one of two tokens.
"""

from typing import Any

import onnx_ir as ir

from vit_edge.host.rewrite.composites import SELECT, is_composite
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import integer, select, static_shape, users


class ShareSelect(NodeRule[tuple[int, int]]):
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

    def find(self, node: ir.Node) -> tuple[int, int] | Declined:
        """(start, stop) of all selections from the value, where nothing else reads it and it is worth it."""
        x = required(node.inputs[0], node)
        covering = _covering(x)
        if covering is None:
            return Declined("not every reader is a selection")
        start, stop = covering
        if (start, stop) == (integer(node, "start"), integer(node, "stop")):
            return Declined("the selection covers all others already")
        if 2 * (stop - start) > required(static_shape(x), node)[0]:
            return Declined("the selections lie far apart")
        return covering

    def replace(self, op: Any, node: ir.Node, found: tuple[int, int]) -> ir.Value:
        """Select the covering range, then this one from it."""
        start, stop = found
        shared = select(op, required(node.inputs[0], node), start, stop)
        return select(op, shared, integer(node, "start") - start, integer(node, "stop") - start)


def _covering(x: ir.Value) -> tuple[int, int] | None:
    readers = users(x)
    if x.is_graph_output() or not all(is_composite(reader, SELECT) for reader in readers):
        return None
    return min(integer(r, "start") for r in readers), max(integer(r, "stop") for r in readers)
