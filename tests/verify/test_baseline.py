"""The linear model on pixels."""

import tracemalloc

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tools.digits import split
from vit_edge.verify.baseline import FOLDS, _penalty, linear_right
from vit_edge.verify.ridge import ridge


@pytest.mark.parametrize("count", [60, 30], ids=["more images than numbers of each", "fewer"])
def test_it_is_ridge_regression_as_scikit_learn_does_it(count: int) -> None:
    rng = np.random.default_rng(0)
    images, held = rng.random((count, 48)), rng.random((9, 48))
    wanted = np.eye(4)[rng.integers(0, 4, count)]
    centred = images - images.mean(axis=0)
    penalty = 0.1 * float(np.trace(centred @ centred.T)) / count
    expected = Ridge(alpha=penalty).fit(images, wanted).predict(held)
    np.testing.assert_allclose(ridge(images, wanted, held, _penalty), expected, rtol=1e-8, atol=1e-10)


def test_its_memory_does_not_grow_with_the_square_of_the_images() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 20_000)
    small = rng.integers(0, 256, (20_000, 2, 2, 3), dtype=np.uint8)
    tracemalloc.start()
    try:
        linear_right(small, labels)
        assert tracemalloc.get_traced_memory()[1] < 100e6  # products of all pairs take 2 GB
    finally:
        tracemalloc.stop()


def test_digits_are_told_apart_by_their_pixels() -> None:
    part = split()["test"]
    assert linear_right(part.pixels[:, ::2, ::2], part.labels).mean() > 0.85


def test_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    small, labels = rng.integers(0, 256, (200, 8, 8, 3), dtype=np.uint8), rng.integers(0, 10, 200)
    assert linear_right(small, labels).mean() < 0.25


@pytest.mark.parametrize("count", [1, FOLDS - 1, FOLDS + 1])
def test_few_images_are_no_error(count: int) -> None:
    small = np.zeros((count, 4, 4, 3), np.uint8)
    assert linear_right(small, np.zeros(count, np.int64)).shape == (count,)
