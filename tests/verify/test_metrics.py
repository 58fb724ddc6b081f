"""Metrics against scikit-learn, scipy and torch, and what they refuse."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import top_k_accuracy_score

from vit_edge.errors import DatasetError, ModelError
from vit_edge.verify.arrays import ROWS_AT_ONCE, Floats
from vit_edge.verify.metrics import (
    agreement,
    expected_calibration_error,
    label_ranks,
    logit_sqnr_db,
    mean_kl_divergence,
    same_prediction,
    top_k_correct,
)


def logits_of(seed: int, n: int = 200, classes: int = 10) -> Floats:
    return np.random.default_rng(seed).normal(0, 3, (n, classes)).astype(np.float32)


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_top_k_equals_scikit_learn(k: int) -> None:
    logits = logits_of(1)
    labels = np.random.default_rng(2).integers(0, 10, 200)
    assert top_k_correct(logits, labels, k).mean() == top_k_accuracy_score(
        labels, logits, k=k, labels=range(10)
    )


def test_top_1_equals_argmax_even_among_equal_logits() -> None:
    logits = np.random.default_rng(3).integers(0, 3, (500, 4)).astype(np.float32)
    labels = np.random.default_rng(4).integers(0, 4, 500)
    np.testing.assert_array_equal(top_k_correct(logits, labels, 1), logits.argmax(axis=1) == labels)


def test_a_constant_output_is_one_fixed_guess_and_not_always_right() -> None:
    ranks = label_ranks(np.zeros((4, 4), np.float32), np.arange(4))
    assert ranks.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("k", [0, -1, 11])
def test_top_k_refuses_a_k_outside_the_classes(k: int) -> None:
    with pytest.raises(ValueError, match="k must be 1 to 10"):
        top_k_correct(logits_of(1), np.zeros(200, np.int64), k)


def test_agreement_is_the_percentage_of_equal_predictions() -> None:
    reference = np.eye(4, dtype=np.float32)
    other = np.eye(4, dtype=np.float32)[[0, 1, 2, 0]]
    assert same_prediction(reference, other).tolist() == [True, True, True, False]
    assert agreement(reference, other) == 75.0


@pytest.mark.parametrize("n", [50, ROWS_AT_ONCE + 3])  # one block, and a second, short one
def test_sqnr_of_scaled_logits_is_known_in_closed_form(n: int) -> None:
    reference = logits_of(5, n)
    # f - q = f / 100, so the ratio of powers is 10^4; float32 rounding of q moves that by about 1e-4 dB
    assert logit_sqnr_db(reference, (reference * np.float32(0.99))) == pytest.approx(40.0, abs=1e-3)


def test_sqnr_of_identical_logits_is_infinite() -> None:
    assert logit_sqnr_db(logits_of(5), logits_of(5)) == math.inf


def test_sqnr_counts_a_common_offset_as_noise() -> None:
    reference = logits_of(5)
    assert logit_sqnr_db(reference, reference + np.float32(1)) < 20


def test_sqnr_refuses_a_float_model_that_says_nothing() -> None:
    with pytest.raises(ModelError, match="all zero; give a model with a trained head"):
        logit_sqnr_db(np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32))


@pytest.mark.parametrize("n", [50, ROWS_AT_ONCE + 3])
def test_divergence_equals_scipy_and_torch(n: int) -> None:
    reference, other = logits_of(6, n), logits_of(7, n)
    p, q = (torch.from_numpy(x).double().softmax(1).numpy() for x in (reference, other))
    # float64 on both sides: only the order of the sums differs
    assert mean_kl_divergence(reference, other) == pytest.approx(
        stats.entropy(p, q, axis=1).mean(), rel=1e-12
    )


def test_divergence_of_identical_or_shifted_logits_is_zero() -> None:
    reference = logits_of(6)
    assert mean_kl_divergence(reference, reference) == 0.0
    assert mean_kl_divergence(reference, reference + np.float32(4)) == pytest.approx(0, abs=1e-12)


def test_divergence_survives_logits_whose_exponential_overflows() -> None:
    reference = np.array([[1000.0, 0.0]], np.float32)
    assert mean_kl_divergence(reference, reference[:, ::-1]) == pytest.approx(1000.0)


def test_calibration_error_equals_a_bin_by_bin_count() -> None:
    logits = logits_of(8, 3000, 4) / 2
    labels = np.random.default_rng(9).integers(0, 4, 3000)
    probability = torch.from_numpy(logits).double().softmax(1)
    confidence, prediction = (x.numpy() for x in probability.max(1))
    expected = 0.0
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            gap = abs((prediction[inside] == labels[inside]).mean() - confidence[inside].mean())
            expected += inside.mean() * gap
    assert expected_calibration_error(logits, labels) == pytest.approx(100 * expected, rel=1e-9)


def test_calibration_error_of_a_sure_and_right_model_is_zero_and_of_a_sure_and_wrong_one_100() -> None:
    logits = np.eye(3, dtype=np.float32) * 1000
    assert expected_calibration_error(logits, np.arange(3)) == 0.0
    assert expected_calibration_error(logits, np.array([1, 2, 0])) == 100.0


@given(st.integers(1, 40), st.integers(2, 12), st.integers(0, 1000))
def test_measures_stay_in_their_ranges(n: int, classes: int, seed: int) -> None:
    reference, other = logits_of(seed, n, classes), logits_of(seed + 1, n, classes)
    labels = np.random.default_rng(seed).integers(0, classes, n)
    assert 0 <= agreement(reference, other) <= 100
    assert 0 <= expected_calibration_error(reference, labels) <= 100
    assert mean_kl_divergence(reference, other) >= 0
    assert top_k_correct(reference, labels, classes).all()


@pytest.mark.parametrize("measure", [agreement, logit_sqnr_db, mean_kl_divergence])
@pytest.mark.parametrize(
    ("reference", "other", "error", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), ModelError, r"shape \(2, 3\) and the quantized model's \(2, 4\)"),
        (np.ones((2, 3)), np.ones((3, 3)), ModelError, "the same images"),
        (np.ones(3), np.ones(3), ModelError, r"shape \(images, classes\)"),
        (
            np.ones((2, 3), np.int64),
            np.ones((2, 3)),
            ModelError,
            "float model's logits must be a float",
        ),
        (np.ones((2, 1)), np.ones((2, 1)), ModelError, "at least two"),
        (np.ones((0, 3)), np.ones((0, 3)), DatasetError, "at least one image"),
        (np.ones((2, 2)), np.array([[1, 1], [1, np.nan]]), ModelError, "1 of 2 images, first for image 1"),
        (np.array([[np.inf, 1], [1, 1]]), np.ones((2, 2)), ModelError, "float model's logits are NaN or inf"),
    ],
)
def test_two_models_measures_refuse(
    measure: Callable[[Floats, Floats], float],
    reference: Floats,
    other: Floats,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        measure(reference, other)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 1, 3]), "label 3 of image 2 lies outside the model's classes 0 to 2"),
        (np.array([-1, 1, 2]), "label -1 of image 0"),
        (np.array([0, 1]), "3 integers, one per image"),
        (np.array([0.0, 1.0, 2.0]), "got float64"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: NDArray[Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        expected_calibration_error(np.eye(3, dtype=np.float32), labels)
