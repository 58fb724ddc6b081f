"""What embeddings are used for, in small: nearest neighbours, and a linear probe.

Both see a gallery of images and are asked about others. The vote of neighbours is weighted by
exp(cosine / 0.07), as in Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance
Discrimination" (CVPR 2018), section 3.4. The probe is a ridge regression, see `ridge`.
"""

import numpy as np
from numpy.typing import NDArray

from vit_edge.verify.arrays import Floats, Integers
from vit_edge.verify.ridge import one_hot, ridge

TEMPERATURE = 0.07

_ROWS_AT_ONCE = 512

Reals = NDArray[np.float64]
Indices = NDArray[np.intp]


def nearest(gallery: Floats, queries: Floats, k: int) -> tuple[Indices, Reals]:
    """The rows of the gallery that are most alike to each query, by cosine.

    Args:
        gallery: (G, D), with k rows at least.
        queries: (Q, D).
        k: how many.

    Returns:
        Indices (Q, k), the nearest first, of equals the earlier, and their cosines (Q, k).
    """
    known, asked = directions(gallery), directions(queries)
    found, cosines = np.empty((len(asked), k), np.intp), np.empty((len(asked), k))
    for start in range(0, len(asked), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        alike = asked[rows] @ known.T
        found[rows] = np.argsort(-alike, axis=1, kind="stable")[:, :k]
        cosines[rows] = np.take_along_axis(alike, found[rows], axis=1)
    return found, cosines


def overlap(one: Indices, other: Indices) -> Reals:
    """The share (Q,) of each row's indices that the other's row has, too; both are (Q, k)."""
    shared: Reals = (one[:, :, None] == other[:, None, :]).any(axis=2).mean(axis=1)
    return shared


def voted(found: Indices, cosines: Reals, labels: Integers) -> NDArray[np.int64]:
    """The class (Q,) that each query's neighbours vote for.

    Args:
        found: (Q, k), from `nearest`.
        cosines: the same.
        labels: (G,) classes of the gallery.
    """
    classes, codes = np.unique(labels, return_inverse=True)
    votes = np.zeros((len(found), len(classes)))
    weights = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / TEMPERATURE)
    np.add.at(votes, (np.arange(len(found))[:, None], codes.reshape(-1)[found]), weights)
    chosen: NDArray[np.int64] = classes[votes.argmax(axis=1)].astype(np.int64)
    return chosen


def probed(gallery: Floats, labels: Integers, queries: Floats) -> NDArray[np.int64]:
    """The class (Q,) that a linear probe, taught on the gallery, gives each query.

    The penalty is the mean of the squared singular values that are not zero: in the embeddings' own scale.

    Args:
        gallery: (G, D), two rows at least.
        labels: (G,) their classes.
        queries: (Q, D).
    """
    classes, wanted = one_hot(labels)
    scores = ridge(gallery.astype(np.float64), wanted, queries.astype(np.float64), ridge_penalty)
    chosen: NDArray[np.int64] = classes[scores.argmax(axis=1)].astype(np.int64)
    return chosen


def ridge_penalty(centred: Reals) -> float:
    """Of a probe on embeddings (G, D) whose mean is zero; above 0 even where all are the same."""
    mean = float(np.sum(centred**2)) / float(max(min(len(centred) - 1, centred.shape[1]), 1))
    return max(mean, float(np.finfo(np.float64).tiny))


def directions(vectors: Floats) -> Reals:
    """Each row (N, D) at length one; one that is zero stays so, and is like nothing."""
    rows = vectors.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    made: Reals = rows / np.where(lengths > 0, lengths, 1.0)
    return made
