"""The images on which two models answer differently, with what each of them thought."""

import dataclasses

import numpy as np

from vit_edge.verify.arrays import Floats
from vit_edge.verify.metrics import log_softmax, same_prediction


@dataclasses.dataclass(frozen=True)
class Guess:
    """A class, and how sure a model is of it."""

    index: int
    probability: float  # softmax, 0 to 1


@dataclasses.dataclass(frozen=True)
class Flip:
    """An image whose prediction changed."""

    row: int  # of the logits
    float_top: tuple[Guess, ...]  # the likeliest first
    quant_top: tuple[Guess, ...]


def find_flips(float_logits: Floats, quant_logits: Floats, k: int = 3) -> tuple[Flip, ...]:
    """Every image on which the two models put different classes first, in the order of the rows.

    Args:
        float_logits: (N, C) floating point.
        quant_logits: (N, C) floating point.
        k: how many guesses of each model are given, C if that is fewer.

    Raises:
        DatasetError: no image.
        ModelError: logits that are not finite or of different shapes.
    """
    rows = np.flatnonzero(~same_prediction(float_logits, quant_logits))
    return tuple(
        Flip(int(row), _top(float_logits[row], k), _top(quant_logits[row], k)) for row in rows.tolist()
    )


def _top(logits: Floats, k: int) -> tuple[Guess, ...]:
    probability = np.exp(log_softmax(logits[None])[0])
    best = np.argsort(-logits, kind="stable")[:k]  # of equal logits the lower index first, as in argmax
    return tuple(Guess(int(index), float(probability[index])) for index in best)
