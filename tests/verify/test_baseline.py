"""The linear model on pixels."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tools.digits import split
from vit_edge.verify.baseline import FOLDS, _ridge, linear_right


def test_it_is_ridge_regression_as_scikit_learn_does_it() -> None:
    rng = np.random.default_rng(0)
    images, held = rng.random((60, 48)), rng.random((9, 48))
    wanted = np.eye(4)[rng.integers(0, 4, 60)]
    centred = images - images.mean(axis=0)
    penalty = 0.1 * float(np.trace(centred @ centred.T)) / 60
    expected = Ridge(alpha=penalty).fit(images, wanted).predict(held)
    np.testing.assert_allclose(_ridge(images, wanted, held), expected, rtol=1e-8, atol=1e-10)


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
