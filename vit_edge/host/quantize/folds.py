"""Exact changes of the float model that make its activations easier to quantize, without a new operator.

`fold_norm` moves a scale and a shift per channel from behind a LayerNormalization into its own scale and
bias and into the linear layers that read it (RepQ-ViT, Li et al. 2023; Outlier Suppression+, Wei et al.
2023); from behind an RmsNorm a scale alone.
`fold_values` moves them from the output projection of attention into the values: attention mixes tokens,
never channels, and its weights sum to one (SmoothQuant, Xiao et al. 2023, for attention).
`fold_keys` moves a scale between queries and keys, and centres the keys, which softmax cannot notice. Where
keys are turned by their positions, both numbers of a pair get one scale, and nothing is centred.
"""

import dataclasses

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array, Float64
from vit_edge.host.initializers import stored
from vit_edge.host.rewrite.composites import LINEAR, PERMUTE, RMS_NORM, ROTARY, SELECT, is_composite, is_op
from vit_edge.host.rewrite.values import by_head, constant_of, linear_parts, users


@dataclasses.dataclass(frozen=True)
class Columns:
    """Consecutive columns of a Linear."""

    linear: ir.Node
    first: int
    count: int
    turned: bool = False  # by positions afterwards: one scale for both numbers of a pair, and no shift

    @property
    def part(self) -> slice:
        """The columns as a slice."""
        return slice(self.first, self.first + self.count)


def norm_readers(norm: ir.Node) -> list[ir.Node]:
    """The Linears behind a LayerNormalization, directly or behind a selection or another order of rows.

    Empty where anything else reads it, for then nothing may be folded into it.
    """
    return [] if norm.outputs[0].is_graph_output() else _linears_behind(norm.outputs[0])


def _linears_behind(value: ir.Value) -> list[ir.Node]:
    found: list[ir.Node] = []
    for node in users(value):
        behind = [node] if is_composite(node, LINEAR) else []
        if is_composite(node, SELECT) or is_composite(node, PERMUTE):
            behind = _linears_behind(node.outputs[0])
        if not behind:
            return []
        found.extend(behind)
    return found


def fold_norm(graph: ir.Graph, norm: ir.Node, scale: Float64, shift: Float64) -> None:
    """Make the normalised output (x - shift) / scale instead of x, and its readers undo it; in place.

    Of an RmsNorm the shift is zero.
    """
    gamma = constant_of(norm.inputs[1])
    if gamma is None:
        raise ValueError(f"{norm.name}: the scale is not constant")
    if is_composite(norm, RMS_NORM):
        set_inputs(graph, norm, [gamma / scale])
    else:
        beta = constant_of(norm.inputs[2]) if len(norm.inputs) > 2 else None
        beta = np.zeros_like(gamma) if beta is None else beta
        set_inputs(graph, norm, [gamma / scale, (beta - shift) / scale])
    for linear in norm_readers(norm):
        _undo(graph, linear, scale, shift)


def operand_columns(attention: ir.Node, operand: int) -> Columns | None:
    """Where the queries (0), keys (1) or values (2) of an attention are made; None if not by a Linear."""
    chain, value = by_head(attention.inputs[operand])
    if any(not is_composite(node, ROTARY) for node in chain):
        return None
    node = value.producer() if value is not None else None
    first, count = 0, 0
    if is_op(node, "Split") and node is not None:
        sizes = constant_of(node.inputs[1])
        if sizes is None or node.inputs[0] is None:
            return None
        position = next(i for i, output in enumerate(node.outputs) if output is value)
        first, count = int(sizes[:position].sum()), int(sizes[position])
        node = node.inputs[0].producer()
    if node is None or not is_composite(node, LINEAR):
        return None
    return Columns(node, first, count or linear_parts(node)[1].shape[1], turned=bool(chain))


def projection_of(attention: ir.Node) -> ir.Node | None:
    """The Linear that alone reads an attention, all of its rows or some."""
    readers = users(attention.outputs[0])
    if len(readers) == 1 and is_composite(readers[0], SELECT):
        readers = users(readers[0].outputs[0])
    return readers[0] if len(readers) == 1 and is_composite(readers[0], LINEAR) else None


def fold_values(
    graph: ir.Graph, values: Columns, projection: ir.Node, scale: Float64, shift: Float64
) -> None:
    """Make the values (v - shift) / scale instead of v, and the projection undo it; in place."""
    _rescale(graph, values, 1.0 / scale, shift)
    _undo(graph, projection, scale, shift)


def fold_keys(graph: ir.Graph, queries: Columns, keys: Columns, scale: Float64, shift: Float64) -> None:
    """Make the keys (k - shift) / scale and the queries q * scale; in place."""
    _rescale(graph, keys, 1.0 / scale, shift)
    _rescale(graph, queries, scale, np.zeros_like(scale))


def _rescale(graph: ir.Graph, columns: Columns, factor: Float64, shift: Float64) -> None:
    """Make some outputs y of a Linear (y - shift) * factor."""
    _, weight, bias = linear_parts(columns.linear)
    weight = weight.astype(np.float64)
    bias = np.zeros(weight.shape[1]) if bias is None else bias.astype(np.float64)
    weight[:, columns.part] *= factor
    bias[columns.part] = (bias[columns.part] - shift) * factor
    set_inputs(graph, columns.linear, [weight, bias])


def _undo(graph: ir.Graph, linear: ir.Node, scale: Float64, shift: Float64) -> None:
    """Let a Linear that read x read (x - shift) / scale and give the same."""
    _, weight, bias = linear_parts(linear)
    moved = shift @ weight.astype(np.float64)
    set_inputs(graph, linear, [weight * scale[:, None], moved if bias is None else bias + moved])


def set_inputs(graph: ir.Graph, node: ir.Node, arrays: list[Array]) -> None:
    """Give a node new float32 constants from its second input on, in place."""
    if len(node.inputs) < 1 + len(arrays):
        node.resize_inputs(1 + len(arrays))
    for i, array in enumerate(arrays, 1):
        name = f"{node.name}.input{i}"
        while name in graph.initializers:
            name += "'"
        node.replace_input_with(i, stored(graph, array.astype(np.float32), name))
