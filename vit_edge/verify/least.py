"""How many images a PASS takes at the least: with nothing lost and nothing changed on any of them.

With fewer, no model passes, whatever it is like; so that is said before minutes are spent on one.
"""

import enum
from collections.abc import Callable

import numpy as np

from vit_edge.spec import LEAST_COSINE, EmbeddingTolerance, OutputKind, Tolerance
from vit_edge.verify.bounded import mean_interval
from vit_edge.verify.proportion import clopper_pearson, smallest_sample
from vit_edge.verify.quantile import TAIL
from vit_edge.verify.unconditional import exact_interval

Upper = Callable[[int], float]  # of so many images: the upper end of what may be lost, as a fraction

_HALF = 2  # of the images are queries, the others what is searched


class Known(enum.Enum):
    """What is known to be true of the images."""

    NOTHING = "nothing"
    LABELS = "labels"
    BOXES = "boxes"
    MASKS = "masks"


def least_images(kind: OutputKind, known: Known, tolerance: Tolerance) -> int | None:
    """The fewest images on which a model that loses nothing passes; None where a million do not do.

    Args:
        kind: of the model; not of embeddings, see `least_of_embeddings`.
        known: of the images.
        tolerance: what is accepted.
    """
    confidence = tolerance.confidence
    limit = tolerance.max_changed if known is Known.NOTHING else tolerance.max_drop
    upper: Upper
    if kind.task is OutputKind.REGRESSION:
        upper = _mean(confidence)
    elif known is Known.NOTHING:
        upper = _share(confidence)
    elif known is Known.LABELS:
        upper = _drop(confidence)
    else:
        upper = _places(confidence, 2.0 if known is Known.MASKS else 1.0)
    return _least(upper, limit / 100.0)


def least_of_embeddings(tolerance: EmbeddingTolerance, *, grouped: bool) -> int | None:
    """The same of embeddings, by the criterion that takes most.

    Args:
        tolerance: what is accepted.
        grouped: which images are of one class is known.
    """
    confidence = tolerance.confidence
    mean = _mean(confidence, least=0.0)
    needed = [
        _least(mean, (1.0 - tolerance.min_cosine) / (1.0 - LEAST_COSINE)),
        _least(_share(confidence), TAIL),
        _least(mean, 1.0 - tolerance.min_recall / 100.0, _HALF),
    ]
    if grouped:
        needed.append(_least(_drop(confidence), tolerance.max_drop / 100.0, _HALF))
    found = [each for each in needed if each is not None]
    return max(found) if len(found) == len(needed) else None


def _least(upper: Upper, limit: float, times: int = 1) -> int | None:
    def passes(images: int) -> bool:
        return upper(images) <= limit

    found = 1 if passes(1) else smallest_sample(passes, 1)
    return None if found is None else times * found


def _share(confidence: float) -> Upper:
    return lambda images: clopper_pearson(0, images, confidence)[1]


def _drop(confidence: float) -> Upper:
    return lambda images: exact_interval(0, 0, images, confidence)[1]


def _mean(confidence: float, least: float = -1.0) -> Upper:
    return lambda images: mean_interval(np.zeros(1), confidence, float(images), least)[1]


def _places(confidence: float, times: float) -> Upper:
    """Of the weight of one unseen image in a bootstrap: of n + 1 exponential weights one is Beta(1, n)."""
    tail = (1.0 - confidence) / 2.0
    return lambda images: times * (1.0 - tail ** (1.0 / images))
