"""Labels in another order than the model's answers: which order makes the most of them right."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vit_edge.verify.arrays import Booleans, Integers

Order = tuple[int, ...]  # of each answer of the model, the label that it is


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """An order that labels may be in, and where it may be tested."""

    name: str
    order: Order
    rows: Booleans
    """(N,) images that the order was not found on."""


def candidates(
    labels: Sequence[str] | None, answers: Integers, truth: Integers, classes: int
) -> list[Candidate]:
    """The orders that tools are known to mix up, and one that is found on every second image.

    Args:
        labels: the model's, None where it carries none.
        answers: (N,) class indices that it gives.
        truth: (N,) class indices that are true.
        classes: C.
    """
    everywhere = np.ones(len(truth), np.bool_)
    as_text = sorted(range(classes), key=str)
    known = {
        "shifted down by one": _rolled(classes, -1),
        "shifted up by one": _rolled(classes, 1),
        "reversed": tuple(range(classes))[::-1],
        "sorted by index as text": tuple(as_text),
        "sorted back from index as text": _inverse(as_text),
    }
    if labels is not None and len(set(labels)) == classes:
        by_name = sorted(range(classes), key=lambda index: labels[index])
        known |= {"sorted by name": tuple(by_name), "sorted back from names": _inverse(by_name)}
    found = {name: order for name, order in known.items() if order != tuple(range(classes))}
    halves = np.arange(len(truth)) % 2 == 0
    fitted = fitted_order(answers[halves], truth[halves], classes)
    several = [Candidate(name, order, everywhere) for name, order in _distinct(found).items()]
    if fitted != tuple(range(classes)):
        several.append(Candidate("as the images say", fitted, ~halves))
    return several


def fitted_order(answers: Integers, truth: Integers, classes: int) -> Order:
    """The permutation that makes most answers right, taken greedily: the commonest pair first.

    What is not attested stays where it is if that is free, else goes to the next label that is.
    """
    pairs, times = np.unique(np.stack([answers, truth], axis=1), axis=0, return_counts=True)
    order = np.full(classes, -1)
    taken = np.zeros(classes, np.bool_)
    for answer, label in pairs[np.argsort(-times, kind="stable")].tolist():
        if order[answer] < 0 and not taken[label]:
            order[answer], taken[label] = label, True
    for answer in np.flatnonzero(order < 0).tolist():
        if not taken[answer]:
            order[answer], taken[answer] = answer, True
    order[order < 0] = np.flatnonzero(~taken)
    return tuple(order.tolist())


def _rolled(classes: int, by: int) -> Order:
    return tuple(((np.arange(classes) + by) % classes).tolist())


def _inverse(order: Sequence[int]) -> Order:
    return tuple(np.argsort(np.asarray(order)).tolist())


def _distinct(orders: dict[str, Order]) -> dict[str, Order]:
    """Each order once, under its first name."""
    once: dict[Order, str] = {}
    for name, order in orders.items():
        once.setdefault(order, name)
    return {name: order for order, name in once.items()}
