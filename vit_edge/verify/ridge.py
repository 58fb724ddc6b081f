"""Ridge regression on one-hot classes in closed form (Hoerl and Kennard, Technometrics 12, 1970, 55-67).

It needs no tuning and no random start, and is what embeddings and pixels are probed with.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vit_edge.verify.arrays import Integers

Reals = NDArray[np.float64]


def one_hot(labels: Integers) -> tuple[Integers, Reals]:
    """The classes (C,) that occur among labels (N,), in order, and each label as one of them, (N, C)."""
    classes, codes = np.unique(labels, return_inverse=True)
    return classes, np.eye(len(classes))[codes.reshape(-1)]


def ridge(known: Reals, wanted: Reals, asked: Reals, penalty: Callable[[Reals], float]) -> Reals:
    """Numbers (Q, C) that a regression of `wanted` (G, C) on `known` (G, D) gives for `asked` (Q, D).

    Memory is that of the smaller of two systems, of G or of D unknowns, which have the same answer.

    Args:
        known: one row at least.
        wanted: of the same rows.
        asked: rows of the same length.
        penalty: above 0, of the rows of `known` about their mean.
    """
    centre, prior = known.mean(axis=0), wanted.mean(axis=0)
    centred, targets = known - centre, wanted - prior
    count, dim = centred.shape
    own = penalty(centred)
    if count <= dim:
        weights = centred.T @ np.linalg.solve(centred @ centred.T + own * np.eye(count), targets)
    else:
        weights = np.linalg.solve(centred.T @ centred + own * np.eye(dim), centred.T @ targets)
    scores: Reals = (asked - centre) @ weights + prior
    return scores
