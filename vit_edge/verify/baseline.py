"""The least that a classifier of images must beat: a linear model on a few pixels."""

import numpy as np
from numpy.typing import NDArray

from vit_edge.verify.arrays import Booleans, Integers
from vit_edge.verify.ridge import Reals, one_hot, ridge

FOLDS = 5
_RIDGE = 0.1  # penalty, in units of the mean eigenvalue of the images' inner products


def linear_right(small: NDArray[np.uint8], labels: Integers) -> Booleans:
    """Which images a linear model on pixels gets right that has not seen them (five-fold cross-validation).

    Ridge regression to one number per class, the largest of which is the answer, see `ridge`; a fold takes
    every fifth image of each class.

    Args:
        small: (N, S, S, 3) uint8.
        labels: (N,) class indices.

    Returns:
        (N,) bool.
    """
    flat = small.reshape(len(small), -1).astype(np.float64) / 255.0
    _, wanted = one_hot(labels)
    order = np.argsort(labels, kind="stable")
    fold = np.empty(len(labels), np.intp)
    fold[order] = np.arange(len(labels)) % FOLDS
    right = np.zeros(len(labels), np.bool_)
    for each in range(FOLDS):
        held = fold == each
        if held.any() and not held.all():
            guesses = ridge(flat[~held], wanted[~held], flat[held], _penalty)
            right[held] = guesses.argmax(axis=1) == wanted[held].argmax(axis=1)
    return right


def _penalty(centred: Reals) -> float:
    return _RIDGE * max(float(np.sum(centred**2)) / len(centred), 1e-12)
