"""Neighbours, their vote and the linear probe, against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from vit_edge.verify.arrays import Floats, Integers
from vit_edge.verify.neighbours import TEMPERATURE, nearest, overlap, probed, ridge_penalty, voted

K = 5
SHAPES = [(40, 8), (12, 30), (30, 30)]  # more images than numbers, fewer, as many


def gallery_of(seed: int, count: int, dim: int) -> tuple[Floats, Integers, Floats]:
    """A gallery, its classes, and queries: three noisy clusters."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(0, 1, (3, dim))
    labels = generator.integers(0, 3, count)
    labels[:3] = range(3)  # each has an image
    asked = generator.integers(0, 3, 25)
    noise = generator.normal(0, 1, (count + 25, dim))
    vectors = (np.concatenate([centres[labels], centres[asked]]) + noise).astype(np.float32)
    return vectors[:count], labels * 7 - 3, vectors[count:]  # classes need not be 0, 1, 2


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(SHAPES))
def test_the_nearest_are_those_of_scikit_learn(seed: int, shape: tuple[int, int]) -> None:
    gallery, _, queries = gallery_of(seed, *shape)
    found, cosines = nearest(gallery, queries, K)
    theirs = NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute").fit(
        gallery.astype(np.float64)
    )
    distances, indices = theirs.kneighbors(queries.astype(np.float64))
    np.testing.assert_array_equal(found, indices)
    np.testing.assert_allclose(cosines, 1 - distances, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(SHAPES))
def test_the_vote_is_that_of_scikit_learn_with_these_weights(seed: int, shape: tuple[int, int]) -> None:
    gallery, labels, queries = gallery_of(seed, *shape)

    def weights(distances: Floats) -> Floats:
        return np.asarray(np.exp((1 - distances) / TEMPERATURE))

    theirs = KNeighborsClassifier(K, weights=weights, metric="cosine", algorithm="brute")
    expected = theirs.fit(gallery.astype(np.float64), labels).predict(queries.astype(np.float64))
    np.testing.assert_array_equal(voted(*nearest(gallery, queries, K), labels), expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(SHAPES))
def test_the_probe_is_scikit_learns_ridge_on_one_hot_classes(seed: int, shape: tuple[int, int]) -> None:
    gallery, labels, queries = gallery_of(seed, *shape)
    known = gallery.astype(np.float64)
    classes = np.unique(labels)
    penalty = ridge_penalty(known - known.mean(axis=0))
    theirs = Ridge(alpha=penalty).fit(known, (labels[:, None] == classes).astype(float))
    expected = classes[theirs.predict(queries.astype(np.float64)).argmax(axis=1)]
    np.testing.assert_array_equal(probed(gallery, labels, queries), expected)


def test_the_penalty_is_the_mean_squared_singular_value() -> None:
    known = gallery_of(0, 40, 8)[0].astype(np.float64)
    centred = known - known.mean(axis=0)
    assert ridge_penalty(centred) == pytest.approx(np.mean(np.linalg.svd(centred, compute_uv=False) ** 2))


@given(st.lists(st.permutations(range(8)), min_size=1, max_size=5), st.integers(0, 100))
def test_overlap_counts_what_both_have_whatever_its_order(rows: list[list[int]], seed: int) -> None:
    one = np.array(rows)[:, :4]
    other = np.random.default_rng(seed).permuted(np.tile(np.arange(8), (len(one), 1)), axis=1)[:, :4]
    expected = [len(set(a) & set(b)) / 4 for a, b in zip(one.tolist(), other.tolist(), strict=True)]
    np.testing.assert_allclose(overlap(one, other), expected)
    np.testing.assert_allclose(overlap(one, one[:, ::-1]), 1.0)


def test_length_is_no_likeness_and_an_embedding_that_is_zero_is_like_nothing() -> None:
    gallery = np.array([[1, 0], [0, 1], [0, 0]], np.float32)
    found, cosines = nearest(gallery, np.array([[1, 3], [100, 1]], np.float32), 3)
    assert found.tolist() == [[1, 0, 2], [0, 1, 2]]
    assert cosines[:, 2].tolist() == [0.0, 0.0]


def test_one_class_and_equal_images_are_still_answered() -> None:
    same = np.ones((4, 3), np.float32)
    labels = np.full(4, 6)
    assert probed(same, labels, same).tolist() == [6] * 4
    assert voted(*nearest(same, same, 2), labels).tolist() == [6] * 4
