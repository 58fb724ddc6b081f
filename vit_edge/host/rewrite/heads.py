"""The layout of queries and keys in attention (windows, heads, tokens, width), read off and made again."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.host.rewrite.layout import Indices
from vit_edge.host.rewrite.rule import Declined
from vit_edge.host.rewrite.values import reshape, transpose


class HeadLayout(NamedTuple):
    """How rows (windows * tokens, columns) lie as heads."""

    windows: int
    tokens: int  # of a window
    columns: Indices  # (heads, width), of the source

    @property
    def heads(self) -> int:
        """How many there are."""
        return len(self.columns)


def head_layout(index: Indices, shape: tuple[int, ...]) -> HeadLayout | Declined:
    """Read the layout off the element positions (..., heads, tokens, width) in a source (rows, columns)."""
    if index.ndim < 4 or len(shape) != 2:
        return Declined("it is not laid out as heads of one image")
    whole = index.reshape(-1, *index.shape[-3:])
    windows, heads, tokens, width = whole.shape
    flat = whole.swapaxes(0, 1).reshape(heads, windows * tokens, width)
    if heads == 1:
        return Declined("there is one head only, which is the whole row")
    rows = np.arange(shape[0])[:, None] * shape[1]
    if flat.shape[1] != shape[0] or not np.array_equal(flat, rows + flat[:, :1]):
        return Declined("it mixes tokens")
    return HeadLayout(windows, tokens, flat[:, 0])


def in_layout(op: Any, rows: ir.Value, layout: HeadLayout, shape: Sequence[int]) -> ir.Value:
    """Rows in head order (windows * tokens, heads * width) as `shape`, whose last axes are those of heads."""
    heads, width = layout.columns.shape
    split = reshape(op, rows, (layout.windows, layout.tokens, heads, width))
    return reshape(op, transpose(op, split, (0, 2, 1, 3)), shape)
