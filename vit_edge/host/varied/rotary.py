"""Rotary positions: tables for a grid of patches, and how a head's columns are turned by them."""

import math

import torch
from torch import Tensor

from vit_edge.host.varied.config import Rotation, Turning


def tables(rotation: Rotation, grid: tuple[int, int], width: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every patch's angles.

    Sources: timm's build_rotary_pos_embed (EVA-02) and RopePositionEmbedding of facebookresearch/dinov3.

    Args:
        rotation: whose.
        grid: patches (rows, columns).
        width: columns of a head.

    Returns:
        Two float32 tensors (patches, width).
    """
    count = width // 4
    with torch.device("cpu"):  # also where a model is made without storage
        return _tables(rotation, grid, width, torch.arange(count))


def _tables(rotation: Rotation, grid: tuple[int, int], width: int, bands: Tensor) -> tuple[Tensor, Tensor]:
    count = width // 4
    if rotation.kind is Turning.EVA02:
        places = [torch.arange(n) / n * of for n, of in zip(grid, rotation.reference, strict=True)]
        factors = 1.0 / rotation.temperature ** (bands / count)
    else:
        places = [(torch.arange(n) + 0.5) / n * 2.0 - 1.0 for n in grid]
        factors = 2 * math.pi / rotation.temperature ** (2 * bands / (width // 2))
    rows, columns = torch.meshgrid(*places, indexing="ij")
    angles = (torch.stack([rows, columns], -1)[..., None] * factors).reshape(grid[0] * grid[1], 2 * count)
    neighbours = rotation.kind is Turning.EVA02
    angles = angles.repeat_interleave(2, dim=-1) if neighbours else angles.repeat(1, 2)
    return angles.cos(), angles.sin()


def exchanged(x: Tensor, kind: Turning) -> Tensor:
    """What the sine is multiplied with: (..., width) with the two columns of each angle exchanged."""
    if kind is Turning.EVA02:
        return torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).reshape(x.shape)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)
