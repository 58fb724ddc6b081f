"""The images whose prediction changed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vit_edge.errors import ModelError
from vit_edge.verify import find_flips


def logits_of(seed: int, n: int, classes: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (n, classes)).astype(np.float32)


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(2, 8))
def test_flips_are_the_images_of_another_prediction_with_the_likeliest_classes(
    seed: int, n: int, classes: int
) -> None:
    reference, other = logits_of(seed, n, classes), logits_of(seed + 1, n, classes)
    flips = find_flips(reference, other)
    assert [flip.row for flip in flips] == np.flatnonzero(reference.argmax(1) != other.argmax(1)).tolist()
    for flip in flips:
        for logits, top in ((reference, flip.float_top), (other, flip.quant_top)):
            values, indices = torch.from_numpy(logits[flip.row]).double().softmax(0).topk(min(3, classes))
            assert [guess.index for guess in top] == indices.tolist()
            assert [guess.probability for guess in top] == pytest.approx(values.tolist(), rel=1e-9)


def test_the_first_guess_is_the_prediction_even_among_equal_logits() -> None:
    reference = np.array([[0, 1, 1, 1]], np.float32)
    other = np.array([[2, 0, 2, 0]], np.float32)
    (flip,) = find_flips(reference, other, k=2)
    assert [guess.index for guess in flip.float_top] == [1, 2]
    assert [guess.index for guess in flip.quant_top] == [0, 2]


def test_identical_models_have_no_flips() -> None:
    assert find_flips(logits_of(1, 30, 5), logits_of(1, 30, 5)) == ()


def test_logits_of_different_shapes_are_refused() -> None:
    with pytest.raises(ModelError, match="compare two forms of one model"):
        find_flips(np.ones((2, 3)), np.ones((2, 4)))
