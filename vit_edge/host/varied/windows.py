"""The constants of Swin's windows: relative positions, learned or computed, and the mask of shifted ones."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_HIDDEN = -100.0  # that Swin adds to the scores of tokens of other places
_MOST_FACTOR = math.log(100.0)
_REACH, _STRENGTH = 8.0, 16.0  # of Swin V2's log-spaced coordinates, and of its bias


def relative_index(side: int) -> Tensor:
    """For each pair of tokens of a window, the row of its table; int64 (side^2, side^2)."""
    places = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")).flatten(1)
    apart = places[:, :, None] - places[:, None, :] + side - 1
    return apart[0] * (2 * side - 1) + apart[1]


def learned_bias(table: Tensor, side: int) -> Tensor:
    """Swin's: of a table ((2 side - 1)^2, heads), (heads, side^2, side^2)."""
    return table[relative_index(side)].permute(2, 0, 1).contiguous()


def continuous_bias(weight1: Tensor, bias1: Tensor, weight2: Tensor, side: int, trained: int) -> Tensor:
    """Swin V2's: 16 sigmoid(MLP(log-spaced coordinates)), (heads, side^2, side^2).

    Args:
        weight1: (hidden, 2) of the MLP.
        bias1: (hidden,).
        weight2: (heads, hidden).
        side: of the window.
        trained: side of the windows that the coordinates are counted in; another than `side` where the model
            was fine-tuned with larger ones.
    """
    steps = torch.arange(-(side - 1), side, dtype=torch.float32) / max(trained - 1, 1) * _REACH
    spaced = steps.sign() * torch.log2(steps.abs() + 1.0) / math.log2(_REACH)
    places = torch.stack(torch.meshgrid(spaced, spaced, indexing="ij"), -1).reshape(-1, 2)
    table = F.linear(F.relu(F.linear(places, weight1, bias1)), weight2)
    return _STRENGTH * torch.sigmoid(learned_bias(table, side))


def factor_of(logit_scale: Tensor) -> Tensor:
    """Swin V2's factor of each head's cosines, of what is learned; (heads, 1, 1)."""
    return torch.clamp(logit_scale, max=_MOST_FACTOR).exp()


def shift_mask(grid: tuple[int, int], side: int, shift: tuple[int, int]) -> Tensor:
    """What is added to the scores where windows were moved; (windows, 1, side^2, side^2)."""
    regions = torch.zeros(grid)
    count = 0
    spans = [((0, -side), (-side, -moved), (-moved, None)) if moved else ((0, None),) for moved in shift]
    for top, bottom in spans[0]:
        for left, right in spans[1]:
            regions[top:bottom, left:right] = count
            count += 1
    parted = regions.reshape(grid[0] // side, side, grid[1] // side, side).transpose(1, 2)
    tokens = parted.reshape(-1, side * side)
    other = tokens[:, None, :] != tokens[:, :, None]
    return (other * _HIDDEN)[:, None]
