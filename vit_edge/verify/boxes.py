"""Boxes of a detection head: how they are read, and how far those of two models agree on an image.

The head is of DETR's form, see `runtime.model.maps`. Boxes are read as its authors do (Carion et al. 2020):
the class is the likeliest but for the last, which stands for nothing, its score that of a softmax over all.

Two models agree by the boxes that they show, those of a score of SHOWN and more. Boxes of one class are
matched one to one, the largest intersection over union first and at least MATCHED, as detections are matched
with truth (Everingham et al. 2010), and an image's agreement is the share of all shown boxes, of both models,
that are matched; 1 where neither shows any.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from vit_edge.verify.arrays import Booleans, Floats, Reals

SHOWN = 0.5
MATCHED = 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class Boxes:
    """The boxes of one image."""

    classes: NDArray[np.intp]
    """(Q,)"""
    scores: Reals
    """(Q,) 0 to 1."""
    corners: Reals
    """(Q, 4) left, top, right, bottom in shares of what the model saw; may reach beyond it."""

    def shown(self) -> "Boxes":
        """Those of a score of SHOWN and more that have an area, cut to what the model saw."""
        corners = self.corners.clip(0.0, 1.0)
        kept = (self.scores >= SHOWN) & (corners[:, 2:] > corners[:, :2]).all(axis=1)
        return Boxes(self.classes[kept], self.scores[kept], corners[kept])


def read_boxes(logits: Floats, boxes: Floats) -> Boxes:
    """The boxes of one image.

    Args:
        logits: (Q, classes + 1).
        boxes: (Q, 4), centre x and y, width and height in shares of what the model saw.
    """
    exponents = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(np.float64))
    shares = (exponents / exponents.sum(axis=1, keepdims=True))[:, :-1]
    centre, half = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64) / 2
    corners = np.concatenate([centre - half, centre + half], axis=1)
    return Boxes(shares.argmax(axis=1), shares.max(axis=1), corners)


def box_agreement(given: Boxes, found: Boxes) -> float:
    """The share of the boxes that two models show of an image that are matched, 0 to 1."""
    one, other = given.shown(), found.shown()
    total = len(one.scores) + len(other.scores)
    if not total:
        return 1.0
    shares = overlaps(one.corners, other.corners)
    shares[one.classes[:, None] != other.classes[None]] = 0.0
    pairs = 0
    while shares.size and shares.max() >= MATCHED:
        row, column = np.unravel_index(int(shares.argmax()), shares.shape)
        shares[row], shares[:, column] = 0.0, 0.0
        pairs += 1
    return 2.0 * pairs / total


def overlaps(one: Reals, other: Reals, crowd: Booleans | None = None) -> Reals:
    """(Q, R) intersection over union; over the first box's own area where the second is a crowd.

    Args:
        one: (Q, 4) left, top, right, bottom.
        other: (R, 4).
        crowd: (R,); None: none of them is.
    """
    first, last = np.maximum(one[:, None, :2], other[:, :2]), np.minimum(one[:, None, 2:], other[:, 2:])
    both = (last - first).clip(min=0.0).prod(axis=2)
    own, others = ((each[:, 2:] - each[:, :2]).prod(axis=1) for each in (one, other))
    whole = own[:, None] + others - both
    if crowd is not None:
        whole = np.where(crowd, own[:, None], whole)
    made: Reals = np.divide(both, whole, out=np.zeros_like(both), where=whole > 0)
    return made
