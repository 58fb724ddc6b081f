"""Whether two models disagree because they number their classes differently."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from vit_edge.verify.arrays import Floats, Integers
from vit_edge.verify.metrics import same_prediction

WIDE = 0.05  # share of images on which the predictions differ, below which nobody looks for a permutation
_LEAST_CONFIRMED = 5  # held-out images that a permutation must explain
_EXPLAINED = 0.8  # share of the held-out disagreement that must vanish
_MOST_IMAGES = 4096  # more would only cost time
_CLASSES_AT_ONCE = 2048  # bounds the correlations in memory: 160 MB for 20 000 classes


@dataclasses.dataclass(frozen=True)
class Renumbering:
    """A permutation of the classes explains the disagreement; this is its best attested pair."""

    float_class: int
    quant_class: int  # behaves as `float_class` of the float model does
    images: int  # held out
    differing: int  # of those, before the permutation
    differing_after: int


def find_renumbering(float_logits: Floats, quant_logits: Floats) -> Renumbering | None:
    """Match the classes of two models by behaviour, and see whether that makes them agree.

    On every second image, two classes match if each one's logits correlate best with the other's. The match
    is believed if it removes four fifths of the disagreement on the images in between, which a model that
    is merely damaged cannot reach: its classes still correlate best with themselves.

    Args:
        float_logits: (N, C) finite floating point.
        quant_logits: (N, C) finite floating point, the same images.

    Returns:
        None where the models disagree on fewer than 5 % of the images or for another reason.
    """
    if np.count_nonzero(~same_prediction(float_logits, quant_logits)) < WIDE * len(float_logits):
        return None
    fitted, held_out = slice(0, _MOST_IMAGES, 2), slice(1, _MOST_IMAGES, 2)
    expected, given = (logits[held_out].argmax(axis=1) for logits in (float_logits, quant_logits))
    translated = _matches(float_logits[fitted], quant_logits[fitted])[given]
    explained = (expected != given) & (translated == expected)
    before, after = (int(np.count_nonzero(expected != answers)) for answers in (given, translated))
    if np.count_nonzero(explained) < _LEAST_CONFIRMED or after > (1.0 - _EXPLAINED) * before:
        return None
    float_class, quant_class = _most_frequent(expected[explained], given[explained])
    return Renumbering(float_class, quant_class, len(expected), before, after)


def _matches(float_logits: Floats, quant_logits: Floats) -> NDArray[np.intp]:
    """For each class of the quantized model that of the float model, -1 where no two prefer each other."""
    reference, other = _standardised(float_logits), _standardised(quant_logits)
    classes = reference.shape[1]
    preferred = np.empty(classes, np.intp)  # of each float class
    best = np.full(classes, -np.inf, np.float32)
    preferring = np.zeros(classes, np.intp)  # of each quantized class
    for start in range(0, classes, _CLASSES_AT_ONCE):
        correlation = reference[:, start : start + _CLASSES_AT_ONCE].T @ other
        preferred[start : start + len(correlation)] = correlation.argmax(axis=1)
        highest = correlation.max(axis=0)
        better = highest > best
        best[better] = highest[better]
        preferring[better] = start + correlation.argmax(axis=0)[better]
    return np.where(preferred[preferring] == np.arange(classes), preferring, -1)


def _standardised(logits: Floats) -> NDArray[np.float32]:
    """Columns of mean 0 and length 1, after taking out what is common to an image's classes."""
    columns = logits.astype(np.float64)
    columns -= columns.mean(axis=1, keepdims=True)
    columns -= columns.mean(axis=0)
    length = np.sqrt((columns**2).sum(axis=0))
    return (columns / np.where(length > 0, length, 1.0)).astype(np.float32)


def _most_frequent(first: Integers, second: Integers) -> tuple[int, int]:
    kinds, times = np.unique(np.stack([first, second], axis=1), axis=0, return_counts=True)
    one, two = kinds[times.argmax()].tolist()
    return one, two
