"""How close embeddings are, against scikit-learn and plain sums, and what cannot be compared."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import paired_cosine_distances

from vit_edge import plain
from vit_edge.errors import ModelError
from vit_edge.verify.arrays import Floats
from vit_edge.verify.fidelity import fidelity


def vectors(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 2, 7)])
def test_figures_are_those_of_scikit_learn_over_all_vectors(shape: tuple[int, ...]) -> None:
    reference, other = vectors(0, *shape), vectors(0, *shape) + vectors(1, *shape) / 3
    found = fidelity(reference, other)
    flat = [values.reshape(-1, 7).astype(np.float64) for values in (reference, other)]
    cosines = 1 - paired_cosine_distances(*flat)
    assert found.cosine == pytest.approx(cosines.mean(), abs=1e-12)
    assert found.least_cosine == pytest.approx(cosines.min(), abs=1e-12)
    ratio = np.sum(flat[0] ** 2) / np.sum((flat[0] - flat[1]) ** 2)
    assert found.sqnr_db == pytest.approx(10 * np.log10(ratio), abs=1e-9)


@given(st.floats(0.1, 10), st.integers(0, 100))
def test_cosine_does_not_see_length_and_sqnr_does(factor: float, seed: int) -> None:
    reference = vectors(seed, 4, 8)
    found = fidelity(reference, reference.astype(np.float64) * factor)
    assert found.least_cosine == pytest.approx(1, abs=1e-12)
    if abs(factor - 1) > 1e-3:
        assert found.sqnr_db == pytest.approx(-20 * math.log10(abs(factor - 1)), abs=1e-6)


def test_identical_embeddings_have_no_noise_and_json_says_null() -> None:
    found = fidelity(vectors(2, 3, 5), vectors(2, 3, 5))
    assert found.sqnr_db == math.inf
    assert json.loads(json.dumps(plain.of(found), allow_nan=False))["sqnr_db"] is None


@pytest.mark.parametrize(
    ("reference", "other", "cosine"),
    [([1, 1, 1], [0, 0, 0], 0.0), ([0, 0, 0], [1, 1, 1], 0.0), ([0, 0, 0], [0, 0, 0], 1.0)],
)
def test_a_vector_that_is_zero_is_like_zero_alone(
    reference: list[int], other: list[int], cosine: float
) -> None:
    pairs = (np.array([[1, 1, 1], each], np.float32) for each in (reference, other))
    assert fidelity(*pairs).least_cosine == cosine


@pytest.mark.parametrize(
    ("reference", "other", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), "shapes"),
        (np.ones((0, 3)), np.ones((0, 3)), "shapes"),
        (np.zeros((2, 3)), np.ones((2, 3)), "all zero"),
        (np.full((2, 3), np.nan), np.ones((2, 3)), "not finite"),
        (np.ones((2, 3)), np.full((2, 3), np.inf), "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(reference: Floats, other: Floats, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        fidelity(reference, other)
