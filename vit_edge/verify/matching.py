"""Which of the boxes that a model gives for an image are right, as COCO has it.

Boxes of a class are taken by their score, the surest first and at most MOST of them. Each takes the true box
of its class with which it has the largest intersection over union, where that reaches the threshold and the
true box is still free; one that is left without is false. A true box may stand for a crowd: it is missed by
nobody, takes any number of boxes that lie in it for as much as the threshold, and these count neither way.
So does pycocotools' `COCOeval.evaluateImg` (Lin et al. 2014, https://cocodataset.org/#detection-eval) for
boxes of any area.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from vit_edge.verify.arrays import Booleans, Reals
from vit_edge.verify.boxes import overlaps

Indices = NDArray[np.intp]

THRESHOLDS = np.linspace(0.5, 0.95, 10)
MOST = 100  # boxes of a class of an image
_ROUNDING = 1e-10


@dataclasses.dataclass(frozen=True, eq=False)
class TrueBoxes:
    """What is true of one image."""

    classes: Indices
    """(K,)"""
    corners: Reals
    """(K, 4) left, top, right, bottom, of any unit, with an area."""
    crowd: Booleans
    """(K,)"""


@dataclasses.dataclass(frozen=True, eq=False)
class Matches:
    """Of the boxes that a model gives for one image, for each of T thresholds."""

    classes: Indices
    """(D,)"""
    scores: Reals
    """(D,)"""
    right: Booleans
    """(T, D)"""
    wrong: Booleans
    """(T, D) neither where a box lies in a crowd."""


def match_boxes(classes: Indices, scores: Reals, corners: Reals, truth: TrueBoxes) -> Matches:
    """Match the boxes of one image, of whatever class, with the true ones.

    Args:
        classes: (D,)
        scores: (D,)
        corners: (D, 4), in the unit of `truth`.
        truth: of the image.
    """
    chosen, right, wrong = [], [], []
    for index in np.unique(classes):
        rows = np.flatnonzero(classes == index)
        rows = rows[np.argsort(-scores[rows], kind="stable")][:MOST]
        true = np.flatnonzero(truth.classes == index)
        true = true[np.argsort(truth.crowd[true], kind="stable")]
        shares = overlaps(corners[rows], truth.corners[true], truth.crowd[true])
        hit, spared = _matched(shares, truth.crowd[true])
        chosen.append(rows)
        right.append(hit)
        wrong.append(~(hit | spared))
    if not chosen:
        none = np.zeros((len(THRESHOLDS), 0), np.bool_)
        return Matches(np.zeros(0, np.intp), np.zeros(0), none, none)
    order = np.concatenate(chosen)
    return Matches(
        classes[order], scores[order], np.concatenate(right, axis=1), np.concatenate(wrong, axis=1)
    )


def _matched(shares: Reals, crowd: Booleans) -> tuple[Booleans, Booleans]:
    """(T, D) which boxes, in order of their score, take a true one, and which lie in a crowd.

    Args:
        shares: (D, K), crowds last.
        crowd: (K,)
    """
    steps, least = np.arange(len(THRESHOLDS)), np.minimum(THRESHOLDS, 1 - _ROUNDING)
    hit = np.zeros((len(steps), len(shares)), np.bool_)
    spared = np.zeros_like(hit)
    singles = int((~crowd).sum())
    free = np.ones((len(steps), singles), np.bool_)
    near = np.flatnonzero((shares >= least[0]).any(axis=1)) if shares.size else ()
    for row in near:
        if singles:
            mine = np.where(free, shares[row, :singles], -1.0)
            best = singles - 1 - mine[:, ::-1].argmax(axis=1)  # of equal ones the last
            hit[:, row] = mine[steps, best] >= least
            taken = steps[hit[:, row]]
            free[taken, best[taken]] = False
        if singles < len(crowd):
            spared[:, row] = ~hit[:, row] & (shares[row, singles:].max() >= least)
    return hit, spared
