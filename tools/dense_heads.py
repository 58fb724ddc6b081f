"""Heads for boxes and for masks on the patch grid of a ViT, and how the one for boxes is trained.

Boxes are given as DETR gives them (Carion et al. 2020): a fixed number of them, here one per patch, each with
logits of the classes and one for nothing, and no box is suppressed for another. So each object is taught to
one patch alone: the assignment of least cost among the patches whose centre its box holds, after DETR's
matching and the centre prior of FCOS (Tian et al. 2019).
"""

import dataclasses

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

NOTHING_WEIGHT = 0.2  # of a patch that has no object, in the loss of classes
CORNERS_WEIGHT, OVERLAP_WEIGHT = 5.0, 2.0  # DETR's
FAR = 1e6  # the cost of a patch that lies outside of a box


@dataclasses.dataclass(frozen=True, eq=False)
class Objects:
    """What is true of one image, M objects."""

    labels: Tensor  # (M,) int64
    corners: Tensor  # (M, 4) left, top, right, bottom in shares of the image


class BoxHead(nn.Module):
    """A box for each patch: (N, dim, rows, columns) to logits (N, Q, classes + 1) and boxes (N, Q, 4)."""

    def __init__(self, dim: int, grid: tuple[int, int], classes: int, width: int, further: int = 0) -> None:
        super().__init__()
        self.classes = classes
        self.mix = nn.Conv2d(dim, width, 3, padding=1)
        self.further = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(further))
        self.last = nn.Conv2d(width, classes + 1 + 4, 1)
        rows, columns = grid
        down, across = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        still = torch.zeros(rows * columns)
        # The centre may lie up to half a patch beyond its own; sizes are shares of the image.
        start = [(across.flatten() - 0.5) / columns, (down.flatten() - 0.5) / rows, still, still]
        self.register_buffer("start", torch.stack(start, dim=1)[None], persistent=False)
        self.register_buffer("scale", torch.tensor([2 / columns, 2 / rows, 1, 1]), persistent=False)
        self.start: Tensor
        self.scale: Tensor

    def forward(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and centre x and y, width and height in shares of the image."""
        x = F.relu(self.mix(grid))
        for each in self.further:
            x = F.relu(each(x))
        made = self.last(x).flatten(2).transpose(1, 2)
        boxes = torch.sigmoid(made[..., self.classes + 1 :]) * self.scale + self.start
        return made[..., : self.classes + 1], boxes


class MaskHead(nn.Module):
    """Scores of classes for each place: (N, dim, rows, columns) to (N, classes, 4 rows, 4 columns)."""

    def __init__(self, dim: int, classes: int, width: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(dim, width, 4, 4)
        self.last = nn.Conv2d(width, classes, 3, padding=1)

    def forward(self, grid: Tensor) -> Tensor:
        """Logits; the largest is the class."""
        scores: Tensor = self.last(F.relu(self.up(grid)))
        return scores


def to_corners(boxes: Tensor) -> Tensor:
    """(..., 4) centre x and y, width and height to left, top, right, bottom."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def generalized_overlap(one: Tensor, other: Tensor) -> Tensor:
    """GIoU (Rezatofighi et al. 2019) of corners (..., 4), -1 to 1."""
    inner = torch.minimum(one[..., 2:], other[..., 2:]) - torch.maximum(one[..., :2], other[..., :2])
    outer = torch.maximum(one[..., 2:], other[..., 2:]) - torch.minimum(one[..., :2], other[..., :2])
    both, hull = inner.clamp(min=0).prod(-1), outer.prod(-1)
    union = (one[..., 2:] - one[..., :2]).prod(-1) + (other[..., 2:] - other[..., :2]).prod(-1) - both
    return both / union - (hull - union) / hull


@torch.no_grad()
def assigned(logits: Tensor, corners: Tensor, places: Tensor, true: Objects) -> tuple[Tensor, Tensor]:
    """Which patch each object of one image is taught to.

    Args:
        logits: (Q, classes + 1).
        corners: (Q, 4) of the boxes.
        places: (Q, 2) centres of the patches, x and y in shares of the image.
        true: M objects, at most Q.

    Returns:
        Patches and objects, (M,) each.
    """
    cost = -logits.softmax(-1)[:, true.labels]
    cost = cost + CORNERS_WEIGHT * torch.cdist(corners, true.corners, p=1)
    cost = cost - OVERLAP_WEIGHT * generalized_overlap(corners[:, None], true.corners[None])
    middle = (true.corners[None, :, :2] + true.corners[None, :, 2:]) / 2
    half = (true.corners[None, :, 2:] - true.corners[None, :, :2]) / 2
    away = ((places[:, None] - middle).abs() / half).amax(dim=-1)
    cost = cost + FAR * (away > 1) + away  # of those within, rather one in the middle
    rows, columns = linear_sum_assignment(np.nan_to_num(cost.numpy(), nan=2 * FAR))
    return torch.from_numpy(rows), torch.from_numpy(columns)


def box_loss(head: BoxHead, made: tuple[Tensor, Tensor], true: list[Objects]) -> Tensor:
    """Cross-entropy of all patches, L1 and GIoU of those that have an object; per object of the batch."""
    logits, boxes = made
    corners = to_corners(boxes)
    places = (head.start[0] + head.scale / 2)[:, :2]
    nothing = torch.full(logits.shape[:2], head.classes)
    found, wanted = [], []
    for row, objects in enumerate(true):
        if not len(objects.labels):
            continue
        patches, chosen = assigned(logits[row], corners[row], places, objects)
        nothing[row, patches] = objects.labels[chosen]
        found.append(corners[row, patches])
        wanted.append(objects.corners[chosen])
    weights = torch.ones(head.classes + 1)
    weights[-1] = NOTHING_WEIGHT
    classes = F.cross_entropy(logits.flatten(0, 1), nothing.flatten(), weights, reduction="sum")
    one, other = torch.cat(found), torch.cat(wanted)
    distance = (one - other).abs().sum()
    apart = (1 - generalized_overlap(one, other)).sum()
    return (classes + CORNERS_WEIGHT * distance + OVERLAP_WEIGHT * apart) / len(one)
