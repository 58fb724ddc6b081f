"""What the numbers of a model show without any other way to run it: their meaning, dead classes, labels."""

from collections.abc import Sequence

import numpy as np

from vit_edge.arrays import Float32
from vit_edge.diagnosis import Code, Figure, Finding, Severity
from vit_edge.runtime.model.outputs import seem_probabilities
from vit_edge.spec import OutputKind
from vit_edge.verify.arrays import Floats, Integers

STILL = 1e-3  # share of the usual spread below which a number does not move
_LEAST_IMAGES = 8  # from which a number that does not move is telling
_SUM = 1e-2  # by which probabilities may miss 1, in float16
_MISSED = 0.01  # chance that any class misses all its images by bad luck, over all classes
_LEAST_OF_CLASS = 5  # images
_NAMED = 5

Named = Sequence[str] | None


def label_of(labels: Named, index: int) -> str:
    """A class by its index and name."""
    return f"class {index}" if labels is None else f"class {index} ({labels[index]!r})"


def softmax(kind: OutputKind, values: Float32) -> list[Finding]:
    """Whether a Softmax or Sigmoid is applied twice or not at all.

    Args:
        kind: what the numbers are said to be.
        values: (N, C) numbers of the file.
    """
    if kind is OutputKind.SINGLE_LABEL:
        found = seem_probabilities(values)
        return (
            []
            if found is None
            else [_twice(f"the numbers {found}, as probabilities do, and are taken for logits")]
        )
    if kind is OutputKind.SINGLE_LABEL_PROBABILITIES:
        return _of_probabilities(values)
    if kind in (OutputKind.MULTI_LABEL_PROBABILITIES, OutputKind.BINARY_PROBABILITY):
        low, high = float(values.min()), float(values.max())
        if low < -_SUM or high > 1 + _SUM:
            return [_missing("are taken for probabilities", (Figure("least", low), Figure("largest", high)))]
    return []


def _of_probabilities(values: Float32) -> list[Finding]:
    sums = values.sum(axis=1)
    low, off = float(values.min()), float(np.abs(sums - 1).max())
    if low < -_SUM or off > _SUM:
        figures = Figure("least", low), Figure("largest miss of a sum of 1", off)
        return [_missing("are taken for probabilities of one class of several", figures)]
    if values.shape[1] < 3:
        return []
    # A softmax of numbers from 0 to 1 that add up to 1 can be undone, and gives such numbers again.
    logarithms = np.log(np.maximum(values.astype(np.float64), 1e-300))
    inside = logarithms + (1.0 - logarithms.sum(axis=1, keepdims=True)) / values.shape[1]
    ratio = float((values.max(axis=1) / np.maximum(values.min(axis=1), 1e-30)).max())
    if inside.min() > -1e-3 and np.median(inside.max(axis=1)) > 0.5:
        told = (Figure("largest ratio of two probabilities", ratio),)
        return [_twice("the probabilities are the softmax of probabilities", told)]
    return []


def _twice(what: str, evidence: tuple[Figure, ...] = ()) -> Finding:
    return Finding(
        Code.SOFTMAX_TWICE,
        Severity.ERROR,
        f"a softmax is applied twice: {what}, so that scores are far too even",
        "leave one out of the model's graph, or state --output-kind single_label_probabilities",
        evidence,
    )


def _missing(what: str, evidence: tuple[Figure, ...]) -> Finding:
    return Finding(
        Code.SOFTMAX_MISSING,
        Severity.ERROR,
        f"no softmax or sigmoid is applied: the numbers {what}, and are none",
        "state --output-kind with the kind of their logits",
        evidence,
    )


def constant(logits: Floats, labels: Named) -> list[Finding]:
    """Whether the model gives the same answer to whatever it sees, or some classes the same number."""
    if len(logits) < _LEAST_IMAGES:
        return []
    moves = logits.astype(np.float64).std(axis=0)
    usual, between = float(np.median(moves)), float(logits.std(axis=1).mean())
    if float(moves.max()) <= STILL * max(between, 1e-12):
        return [
            Finding(
                Code.CONSTANT_ANSWER,
                Severity.ERROR,
                f"the answer is the same for every image ({label_of(labels, int(logits[0].argmax()))})",
                "look for weights that were not loaded, or an input that is clipped to one value",
                (Figure("spread over images", float(moves.max())), Figure("spread over classes", between)),
            )
        ]
    still = np.flatnonzero(moves <= STILL * usual)
    if not still.size or usual == 0.0:
        return []
    named = ", ".join(label_of(labels, index) for index in still[:_NAMED].tolist())
    return [
        Finding(
            Code.DEAD_CLASS,
            Severity.WARNING,
            f"{still.size} classes have the same logit for every image: {named}",
            "retrain the head, or leave these classes out of the labels",
            (Figure("classes", float(still.size)), Figure("usual spread of a logit", usual)),
        )
    ]


def missed(logits: Floats, truth: Integers, labels: Named) -> list[Finding]:
    """Classes that are never found, though at the model's accuracy they would be (Bonferroni over them)."""
    right = logits.argmax(axis=1) == truth
    accuracy = float(right.mean())
    counts = np.bincount(truth, minlength=logits.shape[1])
    hits = np.bincount(truth, right, minlength=logits.shape[1])
    tested = np.flatnonzero(counts >= _LEAST_OF_CLASS)
    dead = [
        index
        for index in tested.tolist()
        if hits[index] == 0 and (1.0 - accuracy) ** counts[index] * len(tested) <= _MISSED
    ]
    if not dead:
        return []
    named = ", ".join(f"{label_of(labels, index)}, 0 of {counts[index]}" for index in dead[:_NAMED])
    return [
        Finding(
            Code.DEAD_CLASS,
            Severity.WARNING,
            f"classes that are never recognised ({len(dead)}): {named}",
            "check the label of these classes in the data, and their rows of the head",
            (Figure("classes", float(len(dead))), Figure("accuracy over all", accuracy)),
        )
    ]


def duplicates(labels: Named) -> list[Finding]:
    """Names that several classes bear; ImageNet has two cranes."""
    places: dict[str, list[int]] = {}
    for index, label in enumerate(labels or ()):
        places.setdefault(" ".join(label.split()).casefold(), []).append(index)
    several = {name: indices for name, indices in places.items() if len(indices) > 1}
    if not several:
        return []
    shown = "; ".join(
        f"{name!r} is class {' and '.join(map(str, ids))}" for name, ids in list(several.items())[:_NAMED]
    )
    return [
        Finding(
            Code.DUPLICATE_LABELS,
            Severity.NOTE,
            f"names that several classes bear ({len(several)}): {shown}",
            "tell them apart by index, and name folders of such classes by index or with --class-ids",
            tuple(Figure(f"index of {name}", float(index)) for name, ids in several.items() for index in ids),
        )
    ]
