"""INT8 weights: one symmetric scale per output column, rounded against the inputs that the layer meets.

Rounding each weight to its nearest step ignores that errors of one row can undo errors of another. Error
compensation (GPTQ, Frantar et al. 2023; after Hassibi & Stork 1993) rounds row by row and moves each error
onto the rows that are still to come, by the second moment of the inputs.
"""

import numpy as np
import torch

from vit_edge.arrays import Array, Float32, Float64, Int8

STEPS = 127  # symmetric: -127 to 127
SHRINKS = (1.0, 0.97, 0.94, 0.9, 0.85, 0.8)  # candidates for clipping the largest weights of a column
BLOCK = 64  # rows whose errors are moved within the block first, then at once to the rest


def nearest(weight: Array, scale: Array) -> Int8:
    """Round (in, out) to the nearest step of each column's scale (out,)."""
    return np.clip(np.rint(weight / scale), -STEPS, STEPS).astype(np.int8)


def column_scales(weight: Array, moment: Float32 | Float64 | None = None) -> Float32:
    """Scales (out,) that clip where this lowers the error.

    Args:
        weight: float (in, out).
        moment: (in, in) second moment of the inputs; the error is that of the output. None: of the weights.
    """
    largest = np.abs(weight).max(axis=0)
    # a column of zeros has any scale; one like the others: devices lose precision where scales differ
    largest = np.where(largest > 0.0, np.maximum(largest, 1e-12), max(float(largest.max(initial=0.0)), 1e-12))
    best = largest / STEPS
    lowest = np.full(weight.shape[1], np.inf)
    for shrink in SHRINKS:
        scale = largest * shrink / STEPS
        error = nearest(weight, scale) * scale - weight
        squared = (error * error if moment is None else error * (moment @ error)).sum(axis=0)
        better = squared < lowest
        best[better], lowest[better] = scale[better], squared[better]
    return np.asarray(best, np.float32)


def gptq_rounded(weight: Array, scale: Float32, moment: Float32 | Float64, rows: int) -> Int8:
    """Error-compensated rounding of float (in, out) to the steps of `scale` (out,); see `Compensation`."""
    return Compensation(moment, rows).rounded(weight, scale)


class Compensation:
    """Where the error of each weight goes: what rounding needs to know of a layer's inputs, found once.

    Args:
        moment: (in, in) second moment of the inputs.
        rows: how many rows the moment was taken over; few rows say little about directions they do not span,
            so the moment is drawn towards a multiple of the identity by 1 % and by in / rows.
    """

    def __init__(self, moment: Float32 | Float64, rows: int) -> None:
        size = len(moment)
        power = np.diag(moment).astype(np.float64)
        damping = (0.01 + size / rows) * float(power.sum()) / size
        self.order = np.argsort(-power, kind="stable")
        ordered = moment[np.ix_(self.order, self.order)].astype(np.float64)
        self.factor = _inverse_factor(ordered, max(damping, 1e-12))

    def rounded(self, weight: Array, scale: Float32) -> Int8:
        """Error-compensated rounding of float (in, out) to the steps of `scale` (out,)."""
        factor, size = self.factor, len(self.factor)
        left = weight[self.order].astype(np.float64)
        coded = np.empty(left.shape, np.int8)
        for start in range(0, size, BLOCK):
            stop = min(start + BLOCK, size)
            errors = np.empty((stop - start, left.shape[1]))
            for i in range(start, stop):
                coded[i] = nearest(left[i], scale)
                errors[i - start] = (left[i] - coded[i] * scale.astype(np.float64)) / factor[i, i]
                left[i + 1 : stop] -= np.outer(factor[i, i + 1 : stop], errors[i - start])
            left[stop:] -= factor[start:stop, stop:].T @ errors
        restored = np.empty_like(coded)
        restored[self.order] = coded
        return restored


def _inverse_factor(moment: Float64, damping: float) -> Float64:
    """Upper triangular F with F^T F the damped moment's inverse: row i says where the error of i goes.

    The moment is taken apart from its last row on, so that F is the inverse of a triangle, and no other is
    needed.

    A moment of very few rows that was shifted to nearly nothing is not definite in floating point, and is
    damped further until it is.
    """
    while True:
        regular = moment + damping * np.eye(len(moment))
        try:
            turned = np.linalg.cholesky(regular[::-1, ::-1])
        except np.linalg.LinAlgError:
            damping *= 10.0
        else:
            factor = torch.from_numpy(turned[::-1, ::-1].copy())  # regular = factor @ factor.T
            identity = torch.eye(len(moment), dtype=torch.float64)
            inverse: Float64 = torch.linalg.solve_triangular(factor, identity, upper=True).numpy()
            return inverse
