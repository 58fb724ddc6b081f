"""Tables of positions, with and without the order of a grid."""

import numpy as np
import pytest

from vit_edge.verify.positions import look_at_grid


def waves(rows: int, columns: int) -> np.ndarray:
    """A smooth table (rows * columns, 32)."""
    place = np.stack(np.divmod(np.arange(rows * columns), columns), axis=1) + 0.5
    bands = np.arange(1, 9) * np.pi / max(rows, columns)
    angles = place[:, :, None] * bands
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=2).reshape(rows * columns, -1)


@pytest.mark.parametrize("grid", [(4, 4), (14, 14), (7, 12)])
def test_a_table_in_order_is_seen_as_such(grid: tuple[int, int]) -> None:
    look = look_at_grid(waves(*grid) + 3.0, grid)
    assert look.p == pytest.approx(0.001)
    assert not look.shuffled
    assert look.columns is None


@pytest.mark.parametrize("seed", range(5))
def test_a_shuffled_table_is_seen_as_such(seed: int) -> None:
    rng = np.random.default_rng(seed)
    look = look_at_grid(rng.permutation(waves(14, 14)), (14, 14))
    assert look.shuffled
    assert look.columns is None


def test_a_table_that_was_cut_off_shows_its_own_columns() -> None:
    assert look_at_grid(waves(14, 14)[:49], (7, 7)).columns == 14
    assert look_at_grid(waves(7, 7)[:36], (6, 6)).columns == 7


def test_a_table_of_one_position_says_so_and_no_more() -> None:
    look = look_at_grid(np.ones((16, 8)), (4, 4))
    assert (look.spread, look.p, look.columns) == (0.0, None, None)


def test_a_small_grid_does_not_tell() -> None:
    assert look_at_grid(waves(2, 2), (2, 2)).p is None
