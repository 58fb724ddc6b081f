"""Measures of one model's logits against labels, and of two models' logits against each other.

Sums are taken in float64 whatever the logits' dtype.
"""

import numpy as np
from numpy.typing import NDArray

from vit_edge.errors import ModelError, UsageError
from vit_edge.verify.arrays import (
    Booleans,
    Floats,
    Integers,
    check_labels,
    check_logits,
    check_pair,
    row_blocks,
)
from vit_edge.verify.words import sqnr_db

CALIBRATION_BINS = 15  # Guo et al. 2017, section 5


def label_ranks(logits: Floats, labels: Integers) -> NDArray[np.intp]:
    """How many classes each image's label stands behind: 0 where it is the prediction.

    Of equal logits the lower class index ranks first, as in `argmax`, so a constant output scores as one
    fixed guess and not as always right.

    Args:
        logits: (N, C) floating point.
        labels: (N,) integer class indices.

    Returns:
        (N,) integers, 0 to C - 1.

    Raises:
        DatasetError: no image, or labels that do not fit.
        ModelError: logits that are not finite or not (N, C).
    """
    check_logits(logits, "judged")
    check_labels(labels, *logits.shape)
    own = np.take_along_axis(logits, labels[:, None].astype(np.intp), axis=1)
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    ranks: NDArray[np.intp] = np.count_nonzero((logits > own) | ((logits == own) & earlier), axis=1)
    return ranks


def top_k_correct(logits: Floats, labels: Integers, k: int) -> Booleans:
    """Whether each image's label is among its k largest logits; see `label_ranks` for ties.

    Args:
        logits: (N, C) floating point.
        labels: (N,) integer class indices.
        k: how many classes count, 1 to C.

    Returns:
        (N,) bool.

    Raises:
        DatasetError: no image, or labels that do not fit.
        ModelError: logits that are not finite or not (N, C).
        UsageError: k outside 1 to C.
    """
    ranks = label_ranks(logits, labels)
    if not 1 <= k <= logits.shape[1]:
        raise UsageError(f"k must be 1 to {logits.shape[1]}, got {k}")
    return ranks < k


def same_prediction(float_logits: Floats, quant_logits: Floats) -> Booleans:
    """Whether both models put the same class first, per image.

    Args:
        float_logits: (N, C) floating point.
        quant_logits: (N, C) floating point.

    Returns:
        (N,) bool.

    Raises:
        DatasetError: no image.
        ModelError: logits that are not finite or of different shapes.
    """
    check_pair(float_logits, quant_logits)
    same: Booleans = float_logits.argmax(axis=1) == quant_logits.argmax(axis=1)
    return same


def agreement(float_logits: Floats, quant_logits: Floats) -> float:
    """Percent of images on which both models put the same class first; see `same_prediction`."""
    same = same_prediction(float_logits, quant_logits)
    return 100.0 * int(np.count_nonzero(same)) / same.size


def logit_sqnr_db(float_logits: Floats, quant_logits: Floats) -> float:
    """Signal-to-quantization-noise ratio of the logits, 10 log10(sum f^2 / sum (f - q)^2), in dB.

    The sums run over all images and classes of the logits as they are: neither centred nor scaled, so an
    offset common to all classes, which softmax ignores, counts as signal in f and as noise in f - q.

    Args:
        float_logits: (N, C) floating point, f.
        quant_logits: (N, C) floating point, q.

    Returns:
        dB; positive infinity where the two are identical.

    Raises:
        DatasetError: no image.
        ModelError: logits that are not finite or of different shapes, or float logits that are all zero.
    """
    check_pair(float_logits, quant_logits)
    signal = noise = 0.0
    for rows in row_blocks(len(float_logits)):
        reference = float_logits[rows].astype(np.float64)
        signal += float(np.sum(reference**2))
        noise += float(np.sum((reference - quant_logits[rows]) ** 2))
    if signal == 0.0:
        raise ModelError("the float model's logits are all zero; give a model with a trained head")
    return sqnr_db(signal, noise)


def mean_kl_divergence(float_logits: Floats, quant_logits: Floats) -> float:
    """Mean over images of the Kullback-Leibler divergence KL(softmax(f) || softmax(q)), in nats.

    Args:
        float_logits: (N, C) floating point, f.
        quant_logits: (N, C) floating point, q.

    Returns:
        Nats, 0 or more.

    Raises:
        DatasetError: no image.
        ModelError: logits that are not finite or of different shapes.
    """
    check_pair(float_logits, quant_logits)
    total = 0.0
    for rows in row_blocks(len(float_logits)):
        reference, other = log_softmax(float_logits[rows]), log_softmax(quant_logits[rows])
        total += float(np.sum(np.exp(reference) * (reference - other)))
    return max(0.0, total / len(float_logits))  # rounding alone can leave it a hair below zero


def expected_calibration_error(logits: Floats, labels: Integers) -> float:
    """Expected calibration error of the top-1 softmax probability over 15 equal bins, in percent.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3: bin m holds the confidences
    in ((m - 1) / 15, m / 15], and the bins' |accuracy - confidence| are averaged by their share of images.

    Args:
        logits: (N, C) floating point.
        labels: (N,) integer class indices.

    Returns:
        Percent, 0 to 100.

    Raises:
        DatasetError: no image, or labels that do not fit.
        ModelError: logits that are not finite or not (N, C).
    """
    correct = top_k_correct(logits, labels, 1)
    confidence = np.concatenate(
        [np.exp(log_softmax(logits[rows]).max(axis=1)) for rows in row_blocks(len(logits))]
    )
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    gap = np.bincount(bins, weights=correct - confidence, minlength=CALIBRATION_BINS)
    return 100.0 * float(np.abs(gap).sum()) / len(logits)


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """Logarithms of the softmax probabilities, (N, C) float64, of finite (N, C) logits."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted
