"""Positions of another grid of patches."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vit_edge.host.sources.checkpoints.layout import Resampling


def resize_position_embedding(
    positions: Tensor,
    prefix_tokens: int,
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    resampling: Resampling,
) -> Tensor:
    """Resample a positional embedding to another grid of patches, bicubic in float32.

    The positions of the prefix tokens are kept as they are.

    Args:
        positions: (1, prefix_tokens + old rows * old columns, dim).
        prefix_tokens: tokens before the patches.
        old_grid: patches (rows, columns).
        new_grid: patches (rows, columns).
        resampling: as the library of the keys does it.

    Returns:
        float32 (1, prefix_tokens + new rows * new columns, dim).
    """
    prefix, patches = positions[:, :prefix_tokens].float(), positions[:, prefix_tokens:].float()
    plane = patches.reshape(1, *old_grid, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(
        plane,
        size=new_grid,
        mode="bicubic",
        align_corners=resampling.align_corners,
        antialias=resampling.antialias,
    )
    return torch.cat([prefix, resized.flatten(2).transpose(1, 2)], dim=1)


def resampled_note(
    trained: tuple[int, int], used: tuple[int, int], resampling: Resampling
) -> tuple[str, ...]:
    """A note where grids of patches (rows, columns) differ; () where they do not."""
    if trained == used:
        return ()
    before, after = (f"{rows} x {columns}" for rows, columns in (trained, used))
    return (f"the position embedding is resampled from {before} to {after} patches as in {resampling.words}",)
