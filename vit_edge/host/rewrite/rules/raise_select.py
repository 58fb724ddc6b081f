"""Gather or Slice of consecutive tokens becomes SelectTokens."""

from typing import Any

import numpy as np
import onnx_ir as ir

from vit_edge.host.rewrite.layout import SELECTING, trace
from vit_edge.host.rewrite.rule import Declined, NodeRule, required
from vit_edge.host.rewrite.values import flatten, reshape, select, static_shape


class RaiseSelect(NodeRule[tuple[int, int]]):
    """Gather / Slice along the tokens -> Reshape(SelectTokens(Reshape(x)))."""

    ROOTS = ("Gather", "Slice")
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,3,2] x) => (float[1,2] y) <int64 first = {0}> { y = Gather<axis=1>(x, first) }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[1,3,2] x) => (float[1,3] y) <int64 first = {0}> { y = Gather<axis=2>(x, first) }"""

    def find(self, node: ir.Node) -> tuple[int, int] | Declined:
        """(start, stop) of whole rows of one image's float32 value, consecutive and in order."""
        rows = _rows(node)
        return rows if rows is not None else Declined("does not take consecutive tokens")

    def replace(self, op: Any, node: ir.Node, found: tuple[int, int]) -> ir.Value:
        """Select, then restore the shape."""
        rows = flatten(op, required(node.inputs[0], node))
        every = found == (0, required(static_shape(rows), node)[0])
        made = rows if every else select(op, rows, *found)
        return reshape(op, made, required(static_shape(node.outputs[0]), node))


def _rows(node: ir.Node) -> tuple[int, int] | None:
    x = node.inputs[0]
    shape, result = static_shape(x), static_shape(node.outputs[0])
    if x is None or shape is None or result is None or len(shape) < 2 or x.dtype != ir.DataType.FLOAT:
        return None
    if result[-1:] != shape[-1:] or any(size != 1 for size in shape[:-2]):
        return None
    found = trace(node.outputs[0], through=SELECTING[:2])
    if found is None or found.source is not x or found.index.size == 0:
        return None
    flat = found.index.reshape(-1)
    start, length = int(flat[0]), flat.size
    whole_rows = start % shape[-1] == 0 and length % shape[-1] == 0
    if not whole_rows or not np.array_equal(flat, np.arange(start, start + length)):
        return None
    return start // shape[-1], (start + length) // shape[-1]
