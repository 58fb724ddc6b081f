"""The least that a classifier of images must beat: a linear model on a few pixels."""

import numpy as np
from numpy.typing import NDArray

from vit_edge.verify.arrays import Booleans, Integers

FOLDS = 5
_RIDGE = 0.1  # penalty, in units of the mean eigenvalue of the images' inner products


def linear_right(small: NDArray[np.uint8], labels: Integers) -> Booleans:
    """Which images a linear model on pixels gets right that has not seen them (five-fold cross-validation).

    Ridge regression to one number per class (Hoerl and Kennard, Technometrics 12, 1970, 55-67), the largest
    of which is the answer; a fold takes every fifth image of each class.

    Args:
        small: (N, S, S, 3) uint8.
        labels: (N,) class indices.

    Returns:
        (N,) bool.
    """
    flat = small.reshape(len(small), -1).astype(np.float64) / 255.0
    known, targets = np.unique(labels, return_inverse=True)
    wanted = np.eye(len(known))[targets.reshape(-1)]
    order = np.argsort(labels, kind="stable")
    fold = np.empty(len(labels), np.intp)
    fold[order] = np.arange(len(labels)) % FOLDS
    right = np.zeros(len(labels), np.bool_)
    for each in range(FOLDS):
        held = fold == each
        if held.any() and not held.all():
            guesses = _ridge(flat[~held], wanted[~held], flat[held])
            right[held] = guesses.argmax(axis=1) == targets.reshape(-1)[held]
    return right


def _ridge(
    images: NDArray[np.float64], wanted: NDArray[np.float64], held: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Numbers per class of images that were held out."""
    centre, base = images.mean(axis=0), wanted.mean(axis=0)
    inputs = images - centre
    products = inputs @ inputs.T
    penalty = _RIDGE * max(float(np.trace(products)) / len(products), 1e-12)
    weights = np.linalg.solve(products + penalty * np.eye(len(products)), wanted - base)
    found: NDArray[np.float64] = (held - centre) @ inputs.T @ weights + base
    return found
