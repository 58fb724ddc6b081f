"""Attention as a map: that of the last block, and its rollout through all blocks.

A model file made with `--attention` has the probabilities of each block among its outputs, and says in its
metadata how its tokens lie.
"""

import dataclasses
import enum
import json
from collections.abc import Sequence
from typing import Annotated, Self

import numpy as np

from vit_edge import fields, plain
from vit_edge.arrays import Float32, Float64
from vit_edge.plain import Within

ATTENTION_KEY = "vit_edge.attention"  # in metadata_props: an AttentionLayout as JSON
ATTENTION = "attention"  # outputs attention.0, attention.1, ...: float32 (N, heads, queries, keys)

_MOST = 4096


class Reads(enum.Enum):
    """Which tokens the head reads."""

    CLS = "cls"  # the class token
    MEAN = "mean"  # the mean of the patches
    ALL = "all"  # the mean of all tokens


@dataclasses.dataclass(frozen=True)
class AttentionLayout:
    """What the attention outputs of a file mean."""

    blocks: Annotated[int, Within(1, _MOST)]
    prefix: Annotated[int, Within(0, _MOST)]
    """Tokens in front of the patches."""
    grid: tuple[Annotated[int, Within(1, _MOST)], Annotated[int, Within(1, _MOST)]]
    """Patches (rows, columns)."""
    reads: Reads

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, the first block's first."""
        return tuple(f"{ATTENTION}.{block}" for block in range(self.blocks))

    def to_json(self) -> str:
        """The text kept in metadata_props."""
        return json.dumps(plain.of(self))

    @classmethod
    def of(cls, text: str) -> Self:
        """Read what `to_json` wrote; ValueError names the key that is wrong."""
        return plain.read(cls, fields.parse_json(text, "the text"), ATTENTION_KEY)


def last_attention(probabilities: Sequence[Float32], layout: AttentionLayout) -> Float32:
    """What the last block's class token attends to, or all patches do where the head reads their mean.

    Args:
        probabilities: of each block, of one image (heads, queries, keys).
        layout: of the file.

    Returns:
        (rows, columns) float32, the mean over heads; attention to prefix tokens is left out.
    """
    last = probabilities[-1].astype(np.float64).mean(axis=0)
    return on_grid(start_of(len(last), layout) @ last, layout)


def rollout(probabilities: Sequence[Float32], layout: AttentionLayout) -> Float32:
    """Attention rolled out through all blocks.

    Abnar and Zuidema, Quantifying Attention Flow in Transformers (ACL 2020), section 3: A = (W + I) / 2 with
    W the mean over heads, and the product of all A's. Only the rows that the head reads are multiplied, as a
    last block may compute no others.

    Args:
        probabilities: of each block, of one image (heads, queries, keys).
        layout: of the file.

    Returns:
        (rows, columns) float32; what flows to prefix tokens is left out.
    """
    flow: Float64 | None = None
    for each in reversed(probabilities):
        mean = each.astype(np.float64).mean(axis=0)
        start = start_of(len(mean), layout) if flow is None else flow
        residual = np.zeros(mean.shape[1])
        residual[: len(start)] = start  # the queries of the last block may be the first tokens alone
        flow = 0.5 * (start @ mean) + 0.5 * residual
    if flow is None:
        raise ValueError("there is no block")
    return on_grid(flow, layout)


def start_of(queries: int, layout: AttentionLayout) -> Float64:
    """The share that the head gives each query of the last block."""
    start = np.zeros(queries)
    if layout.reads is Reads.CLS:
        start[0] = 1.0
        return start
    first = layout.prefix if layout.reads is Reads.MEAN else 0
    start[first:] = 1.0 / (queries - first)
    return start


def on_grid(tokens: Float64, layout: AttentionLayout) -> Float32:
    """(rows, columns) of numbers for each token; those of prefix tokens are left out."""
    return np.asarray(tokens[layout.prefix :].reshape(layout.grid), np.float32)
