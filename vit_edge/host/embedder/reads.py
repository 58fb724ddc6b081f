"""Who reads which tokens of a stream: up from a node, and down to the head."""

from collections.abc import Iterator

import onnx_ir as ir

from vit_edge.host.rewrite.composites import SELECT, is_composite, is_norm
from vit_edge.host.rewrite.values import integer, users


def ancestors(node: ir.Node) -> list[ir.Node]:
    """The node and everything that it depends on."""
    reached: dict[ir.Node, None] = {node: None}
    pending = [node]
    while pending:
        for value in pending.pop().inputs:
            maker = None if value is None else value.producer()
            if maker is not None and maker not in reached:
                reached[maker] = None
                pending.append(maker)
    return list(reached)


def rows_of(value: ir.Value) -> Iterator[ir.Value]:
    """The value, and whatever is selected from it."""
    yield value
    for node in users(value):
        if is_composite(node, SELECT):
            yield from rows_of(node.outputs[0])


def read_ranges(value: ir.Value, start: int, stop: int) -> set[tuple[int, int]]:
    """The ranges of tokens that the head reads; `value` holds those from start to stop."""
    ranges = {(start, stop)} if value.is_graph_output() else set[tuple[int, int]]()
    for node in users(value):
        if is_composite(node, SELECT):
            first = start + integer(node, "start")
            ranges |= read_ranges(node.outputs[0], first, start + integer(node, "stop"))
        elif is_norm(node):
            ranges |= read_ranges(node.outputs[0], start, stop)
        else:
            ranges.add((start, stop))
    return ranges
