"""From the numbers that a classifier gives for one image to its answers, the likeliest first."""

import functools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from vit_edge.spec import OutputKind

Values = npt.NDArray[np.float32]
Ranked = list[tuple[int, float]]  # (index of the label, score)

# After a run of the model no cache holds numpy's code, so what counts is how much of it is called, not how
# often: a dot product, which the check for finite values has just done, beats a sum, and for up to so many
# classes looking for the largest again and again beats sorting.
_FEW = 16


def ranking(kind: OutputKind) -> Callable[[Values, int], Ranked]:
    """The function from one image's numbers (C,), finite, and a count to at most so many answers.

    Probabilities are the softmax of all logits, or the sigmoid of each where the labels do not exclude one
    another. One logit z answers as two classes of logits 0 and z do. The values of a regression are given as
    they are, all of them and in their order.
    """
    functions: dict[OutputKind, Callable[[Values, int], Ranked]] = {
        OutputKind.SINGLE_LABEL: most_probable,
        OutputKind.SINGLE_LABEL_PROBABILITIES: _as_given,
        OutputKind.MULTI_LABEL: _sigmoids,
        OutputKind.MULTI_LABEL_PROBABILITIES: _as_given,
        OutputKind.BINARY: lambda values, count: _both(sigmoid(-values[0]), sigmoid(values[0]), count),
        OutputKind.BINARY_PROBABILITY: lambda values, count: _both(1 - values[0], values[0], count),
        OutputKind.REGRESSION: lambda values, _: list(enumerate(values.tolist())),
    }
    return functions[kind]


def most_probable(logits: Values, count: int) -> Ranked:
    """(index, probability) of the largest of C logits, largest first; of equal ones, the lower index first.

    Args:
        logits: (C,), finite.
        count: how many; of more than C, all are given.

    Returns:
        Probabilities are the softmax of all logits, computed in float32.
    """
    count = min(count, len(logits))
    first = int(logits.argmax())
    with np.errstate(over="ignore"):  # a class may be masked by the lowest number there is
        powers = logits - logits[first]
    np.exp(powers, out=powers)
    total = float(np.vdot(powers, _ones(len(powers))))
    if count > _FEW:
        order = np.argsort(-logits, kind="stable")[:count]
        return list(zip(order.tolist(), (powers[order] / total).tolist(), strict=True))
    left = logits.copy()
    found = []
    for _ in range(count):
        index = int(left.argmax())
        found.append((index, float(powers[index]) / total))
        left[index] = -np.inf
    return found


def sigmoid(value: float) -> float:
    """1 / (1 + exp(-value)) without overflow."""
    power = math.exp(-abs(float(value)))
    return (1.0 if value >= 0 else power) / (1.0 + power)


def _as_given(values: Values, count: int) -> Ranked:
    """The largest values, of equal ones the lower index first."""
    order = np.argsort(-values, kind="stable")[:count]
    return [(index, float(values[index])) for index in order.tolist()]


def _sigmoids(logits: Values, count: int) -> Ranked:
    """Ranked by the logits themselves: far out, sigmoids are all 1."""
    return [(index, sigmoid(value)) for index, value in _as_given(logits, count)]


def _both(no: float, yes: float, count: int) -> Ranked:
    """Of two classes, the likelier first."""
    ranked = [(0, float(no)), (1, float(yes))]
    return sorted(ranked, key=lambda each: -each[1])[:count]


@functools.lru_cache(maxsize=16)
def _ones(count: int) -> Values:
    """What a dot product adds up numbers with."""
    return np.ones(count, np.float32)
