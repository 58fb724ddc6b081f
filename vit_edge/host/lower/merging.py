"""Lowering of token merging to standard operators of fixed shapes, for any number of images.

What is chosen at run time are places, never how many: TopK of all pairs puts the most alike first, the rest
is brought back to its order, and a product with zeros and ones adds what merges to what it merges with. Sizes
travel as one more column behind the tokens, so that both take the same way.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from vit_edge.host.lower.attention import Added
from vit_edge.host.lower.graph import GraphWriter
from vit_edge.host.rewrite.values import constant_of, integer, static_shape


@dataclasses.dataclass(frozen=True, eq=False)
class Tokens:
    """What is merged, and by what."""

    x: ir.Value
    """(batch * rows, columns)"""
    alike: ir.Value
    """(batch, rows, width): the means of the keys."""
    sizes: ir.Value | None
    """(batch, rows, 1): of how many each is the mean; None: of itself alone."""


@dataclasses.dataclass(frozen=True)
class Sides:
    """Which tokens of an image may merge into which: those behind the prefix belong to two sides in turn."""

    rows: int
    columns: int
    prefix: int
    count: int
    """That merge."""

    @property
    def first(self) -> tuple[int, int]:
        """Where the side of even places, which merges, begins, and how many it has."""
        return self._side(0)

    @property
    def second(self) -> tuple[int, int]:
        """The same of the side that is merged into."""
        return self._side(1)

    def _side(self, parity: int) -> tuple[int, int]:
        start = self.prefix + (self.prefix + parity) % 2
        return start, len(range(start, self.rows, 2))


def alike(w: GraphWriter, keys: ir.Value, node: ir.Node, name: str) -> ir.Value:
    """By what tokens are told alike, (batch, rows, width): the means over the heads of the source's keys.

    Args:
        w: writes the nodes.
        keys: (batch, heads, rows, width).
        node: the Attention; it says how folding moved them.
        name: of the nodes.
    """
    axes = w.shared(np.asarray([1], np.int64), "axes")
    frame = constant_of(node.inputs[5]) if len(node.inputs) > 5 else None
    if frame is None:
        return w.op("ReduceMean", [keys, axes], f"{name}.alike", {"keepdims": 0})
    scale, shift = frame.reshape(2, integer(node, "heads"), 1, -1)
    unfolded = w.op("Mul", [keys, w.constant(scale, f"{name}.key_scale")], f"{name}.unfolded")
    mean = w.op("ReduceMean", [unfolded, axes], f"{name}.key_mean", {"keepdims": 0})
    return w.op("Add", [mean, w.constant(shift.mean(axis=0), f"{name}.key_shift")], f"{name}.alike")


def sized(w: GraphWriter, added: Added, sizes: ir.Value, rows: int, name: str) -> Added:
    """What is added to scores, and the logarithm of the size of each of the `rows` keys."""
    logs = w.reshape(w.op("Log", [sizes], f"{name}.log_sizes"), (-1, 1, 1, rows), f"{name}.of_keys")
    return dataclasses.replace(added, of_keys=logs)


def written(w: GraphWriter, node: ir.Node, given: Sequence[ir.Value | None]) -> tuple[ir.Value, ir.Value]:
    """What a MergeTokens becomes, given what its inputs have become; see `merged`."""
    rows, columns = static_shape(node.inputs[0]) or (0, 0)
    x, by, sizes = given
    if x is None or by is None:
        raise ValueError(f"{node.name}: has no tokens to merge")
    sides = Sides(rows, columns, integer(node, "prefix"), integer(node, "count"))
    return merged(w, Tokens(x, by, sizes), sides, node.name or "merged")


def merged(w: GraphWriter, tokens: Tokens, sides: Sides, name: str) -> tuple[ir.Value, ir.Value]:
    """The tokens that are left, (batch * (rows - count), columns); their sizes (batch, rows - count, 1)."""
    wide = _with_sizes(w, tokens, sides, name)
    kept, gone, into = _pairs(w, tokens.alike, sides, name)
    first = _dealt(w, wide, sides.first, sides, f"{name}.first")
    stays = sides.first[1] - sides.count
    every = w.op("Concat", [kept, gone], f"{name}.order", {"axis": 1})
    ordered = w.op("GatherND", [first, every], f"{name}.ordered", {"batch_dims": 1})
    stay, go = _cut(w, ordered, (stays, sides.count), 1, f"{name}.apart")
    second = _dealt(w, wide, sides.second, sides, f"{name}.second")
    places = w.shared(np.arange(sides.second[1], dtype=np.int64)[:, None], "places")
    row = w.reshape(into, (-1, 1, sides.count), f"{name}.into_row")
    hits = w.op("Cast", [w.op("Equal", [row, places], f"{name}.hits")], f"{name}.ones", {"to": 1})
    joined = w.op("Add", [second, w.op("MatMul", [hits, go], f"{name}.added")], f"{name}.joined")
    prefix = [_rows(w, wide, (0, sides.prefix, 1), f"{name}.prefix")] if sides.prefix else []
    summed = w.op("Concat", [*prefix, stay, joined], f"{name}.sums", {"axis": 1})
    total, of = _cut(w, summed, (sides.columns, 1), 2, f"{name}.parts")
    return w.flattened(w.op("Div", [total, of], f"{name}.means"), sides.columns, f"{name}.flat"), of


def _with_sizes(w: GraphWriter, tokens: Tokens, sides: Sides, name: str) -> ir.Value:
    """(batch, rows, columns + 1): tokens times their sizes, and the sizes."""
    images = w.images(tokens.x, sides.rows, sides.columns, f"{name}.images")
    if tokens.sizes is None:
        ends = w.shared(np.asarray([0, 0, 0, 0, 0, 1], np.int64), "pads")
        return w.op("Pad", [images, ends, w.shared(np.asarray(1.0, np.float32), "one")], f"{name}.wide")
    sizes = w.reshape(tokens.sizes, (-1, sides.rows, 1), f"{name}.sizes")
    return w.op(
        "Concat", [w.op("Mul", [images, sizes], f"{name}.weighed"), sizes], f"{name}.wide", {"axis": 2}
    )


def _pairs(
    w: GraphWriter, alike_by: ir.Value, sides: Sides, name: str
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Places on the first side that stay and that go, and on the second that those go into; (batch, n, 1)."""
    one = w.op("LpNormalization", [alike_by], f"{name}.one", {"axis": -1, "p": 2})
    first = _dealt(w, one, sides.first, sides, f"{name}.one_first")
    second = _dealt(w, one, sides.second, sides, f"{name}.one_second")
    cosines = w.op("MatMul", [first, w.transpose(second, (0, 2, 1), f"{name}.turned")], f"{name}.cosines")
    best, match = _top(w, cosines, 1, 2, f"{name}.best")
    _, order = _top(w, best, sides.first[1], 1, f"{name}.ranked")
    gone, rest = _cut(w, order, (sides.count, sides.first[1] - sides.count), 1, f"{name}.ranks")
    kept, _ = _top(w, rest, sides.first[1] - sides.count, 1, f"{name}.kept", largest=False)
    return kept, gone, w.op("GatherND", [match, gone], f"{name}.into", {"batch_dims": 1})


def _dealt(w: GraphWriter, x: ir.Value, side: tuple[int, int], sides: Sides, name: str) -> ir.Value:
    """The rows of one side, of (batch, rows, any)."""
    return _rows(w, x, (side[0], sides.rows, 2), name)


def _rows(w: GraphWriter, x: ir.Value, bounds: tuple[int, int, int], name: str) -> ir.Value:
    start, stop, step = (w.shared(np.asarray([bound], np.int64), "bound") for bound in bounds)
    return w.op("Slice", [x, start, stop, w.shared(np.asarray([1], np.int64), "axes"), step], name)


def _cut(w: GraphWriter, x: ir.Value, sizes: tuple[int, int], axis: int, name: str) -> list[ir.Value]:
    """Two parts along an axis."""
    return w.ops("Split", [x, w.shared(np.asarray(sizes, np.int64), "sizes")], name, {"axis": axis}, 2)


def _top(
    w: GraphWriter, x: ir.Value, count: int, axis: int, name: str, *, largest: bool = True
) -> list[ir.Value]:
    """Values and places of the first `count` along an axis, in order; of equals the first comes first."""
    wanted = {"axis": axis, "largest": int(largest), "sorted": 1}
    return w.ops("TopK", [x, w.shared(np.asarray([count], np.int64), "count")], name, wanted, 2)
