"""The numbers of any kind of classifier as what the gate judges: logits of classes, of labels, or values."""

import numpy as np
from numpy.typing import NDArray

from vit_edge.spec import OutputKind
from vit_edge.verify.arrays import Booleans, Floats

_TINY = float(np.finfo(np.float32).tiny)


def as_logits(kind: OutputKind, values: Floats) -> NDArray[np.float32]:
    """What a model gave, before any final Softmax or Sigmoid; one logit z as two classes of logits 0 and z.

    Args:
        kind: of the values.
        values: (N, C) floating point.

    Returns:
        (N, C) of `kind.task`, (N, 2) where there was one logit. Logits that are got back from probabilities
        are right but for a number that is the same for all classes, which softmax ignores.
    """
    logits = values.astype(np.float32)
    if kind is OutputKind.SINGLE_LABEL_PROBABILITIES:
        logits = np.log(np.maximum(logits, _TINY))
    elif kind in (OutputKind.MULTI_LABEL_PROBABILITIES, OutputKind.BINARY_PROBABILITY):
        inside = np.clip(values.astype(np.float64), _TINY, 1.0 - np.finfo(np.float32).epsneg)
        logits = (np.log(inside) - np.log1p(-inside)).astype(np.float32)
    if kind.logits is OutputKind.BINARY:
        return np.concatenate([np.zeros_like(logits), logits], axis=1)
    return logits


def present(logits: Floats) -> Booleans:
    """Which labels a multi-label model gives: those of a probability above 0.5.

    Args:
        logits: (N, C).

    Returns:
        (N, C) bool.
    """
    found: Booleans = logits > 0
    return found


def as_choice(outcome: Booleans) -> NDArray[np.float32]:
    """Images on which something holds or not, as logits of two classes of which the first stands for yes.

    So what is known about top-1, its intervals, tests and plans, serves any other yes or no per image.

    Args:
        outcome: (N,) bool.

    Returns:
        (N, 2) float32.
    """
    # Nearly tied, so that the bet on probabilities (see `expected`) is worth nothing.
    return np.stack([outcome, ~outcome], axis=1).astype(np.float32) * np.float32(1e-3)
