"""What is done to each head of queries or keys by itself: rotation, normalization, division by the length."""

from collections.abc import Sequence

import onnx_ir as ir

from vit_edge.errors import ModelError
from vit_edge.host.lower import attention as attentions
from vit_edge.host.lower.graph import GraphWriter
from vit_edge.host.rewrite.composites import HEAD_UNIT, ROTARY, is_composite
from vit_edge.host.rewrite.values import constant_of, number


def treated(w: GraphWriter, x: ir.Value, chain: Sequence[ir.Node], name: str, where: str) -> ir.Value:
    """An operand (batch, heads, rows, width) behind the composites that treat each head by itself.

    Args:
        w: writes the nodes.
        x: the operand.
        chain: the composites, the last first.
        name: of the nodes.
        where: the model's name for messages.

    Raises:
        ModelError: a composite whose tables are not constant.
    """
    for node in reversed(chain):
        first, second = (constant_of(table) for table in (*node.inputs[1:], None)[:2])
        if first is not None and is_composite(node, HEAD_UNIT):
            x = attentions.of_length(w, x, first, f"{name}_unit")
        elif first is None or second is None:
            raise ModelError(f"{where}: the tables of {node.name} are not constant")
        elif is_composite(node, ROTARY):
            x = attentions.turned(w, x, first, second, f"{name}_rotary")
        else:
            x = attentions.normed(w, x, first, second, number(node, "epsilon"), f"{name}_norm")
    return x
