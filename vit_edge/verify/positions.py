"""What a table of positional embeddings shows by itself: patches side by side have like positions."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from vit_edge.arrays import Float64

_PERMUTATIONS = 999
_SHUFFLED = 0.01  # p-value above which neighbours are no more alike than any two patches
_LEAST_GRID = 3  # rows and columns; fewer have too few pairs to tell
_OTHER_PEAK = 0.2  # cosine by which rows of another length must explain the table better


@dataclasses.dataclass(frozen=True)
class GridLook:
    """A table against the grid that the model lays its patches in."""

    spread: float
    """Of the positions about their mean, in units of the mean's length; 0 where all are the same."""
    neighbours: float | None
    """Mean cosine of positions side by side, centred; None where the grid is small or all are the same."""
    p: float | None
    """Of "the positions stand in no order" (permutation test)."""
    columns: int | None
    """Of another grid, whose rows explain the table much better; None where there is none."""

    @property
    def shuffled(self) -> bool:
        """Whether neighbours are no more alike than any two patches."""
        return self.p is not None and self.p > _SHUFFLED


def look_at_grid(table: NDArray[np.floating], grid: tuple[int, int]) -> GridLook:
    """Look for the order of the grid in a table.

    Args:
        table: (rows * columns, D), positions of the patches row by row; what all have in common is no matter.
        grid: (rows, columns).
    """
    positions = np.asarray(table, np.float64)
    centred = positions - positions.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    spread = float(np.sqrt((lengths**2).mean()) / max(float(np.linalg.norm(positions.mean(axis=0))), 1e-12))
    if float(lengths.max()) <= 1e-6 * max(1.0, float(np.abs(positions).max())):
        return GridLook(0.0, None, None, None)
    if min(grid) < _LEAST_GRID:
        return GridLook(spread, None, None, None)
    cosines = _cosines(centred, lengths)
    observed, p = _test(cosines, grid)
    return GridLook(spread, observed, p, _other_columns(cosines, grid[1]))


def _cosines(centred: Float64, lengths: Float64) -> Float64:
    units = centred / np.where(lengths > 0, lengths, 1.0)
    found: Float64 = units @ units.T
    return found


def _test(cosines: Float64, grid: tuple[int, int]) -> tuple[float, float]:
    """Mean cosine of neighbours, and the share of orders in which it is as large."""
    places = np.arange(len(cosines)).reshape(grid)
    first = np.concatenate([places[:, :-1].ravel(), places[:-1].ravel()])
    second = np.concatenate([places[:, 1:].ravel(), places[1:].ravel()])
    observed = float(cosines[first, second].mean())
    rng = np.random.default_rng(0)
    orders = (rng.permutation(len(cosines)) for _ in range(_PERMUTATIONS))
    as_large = sum(float(cosines[order[first], order[second]].mean()) >= observed for order in orders)
    return observed, (1 + as_large) / (1 + _PERMUTATIONS)


def _other_columns(cosines: Float64, columns: int) -> int | None:
    """The length of rows at which positions below one another are most alike, where it is clearly another."""
    count = len(cosines)
    lags = range(max(3, (columns + 1) // 2), min(2 * columns, count - 2) + 1)
    alike = {lag: float(np.diagonal(cosines, lag).mean()) for lag in lags}
    if columns not in alike:
        return None
    best = max(alike, key=lambda lag: alike[lag])
    return best if alike[best] - alike[columns] > _OTHER_PEAK else None
