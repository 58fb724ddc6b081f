"""Which classes lose accuracy, and which of those losses are more than chance."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vit_edge.gate_report import ClassDrop, Mix
from vit_edge.verify.arrays import Booleans, Integers
from vit_edge.verify.paired import mcnemar_one_sided


def class_mix(float_right: Booleans, quant_right: Booleans, labels: Integers) -> Mix:
    """The sizes of the classes, and the drop as the mean over classes.

    Args:
        float_right: (N,) bool, the float model's prediction was right.
        quant_right: (N,) bool.
        labels: (N,) integer class indices.
    """
    images = np.bincount(labels)
    lost = np.bincount(labels, float_right.astype(np.float64) - quant_right)
    seen = images > 0
    sizes = images[seen]
    return Mix(
        classes=int(seen.sum()),
        fewest=int(sizes.min()),
        most=int(sizes.max()),
        balanced_drop=100.0 * float((lost[seen] / sizes).mean()),
    )


def class_drops(
    float_right: Booleans,
    quant_right: Booleans,
    labels: Integers,
    names: Sequence[str],
    sequential: bool,
    weights: NDArray[np.float64] | None = None,
) -> tuple[ClassDrop, ...]:
    """Every class that lost accuracy, the largest drop first; of equal ones those with more images first.

    A class is tested by the exact one-sided McNemar test of "no loss", and the p-values are adjusted after
    Holm for the number of classes that have images, so that naming any class wrongly as worse happens with
    a probability of at most 5 % in all. Holm holds whatever the dependence between the tests; a control of
    the false discovery rate instead would allow a share of the classes named to be named wrongly.

    Args:
        float_right: (N,) bool, the float model's prediction was right.
        quant_right: (N,) bool.
        labels: (N,) integer class indices.
        names: of the classes, in index order.
        sequential: the number of images was not fixed beforehand, for which the test would not hold.
        weights: (N,) of each image, so that a scene counts as one; None for one each.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    counted, lost, gained = (
        np.bincount(labels[chosen], weights[chosen], len(names))
        for chosen in (np.ones_like(float_right), float_right & ~quant_right, ~float_right & quant_right)
    )
    images = np.bincount(labels, minlength=len(names))
    seen = np.flatnonzero(images)
    p = [mcnemar_one_sided(float(lost[index]), float(gained[index])) for index in seen]
    adjusted = dict(zip(seen.tolist(), holm(np.asarray(p)).tolist(), strict=True))
    drops = 100.0 * (lost - gained) / np.where(images > 0, counted, 1.0)
    return tuple(
        ClassDrop(
            names[index], int(images[index]), float(drops[index]), None if sequential else adjusted[index]
        )
        for index in np.lexsort((-images, -drops)).tolist()
        if drops[index] > 0
    )


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """P-values adjusted for their number: below a level where that level's step-down test rejects.

    Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6
    (1979) 65-70.

    Args:
        p: (K,) float64, 0 to 1.

    Returns:
        (K,) float64, 0 to 1, in the order given.
    """
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(stepped)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
