"""The gate: do these images show that the quantized model keeps the float model's accuracy?"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vit_edge.errors import ModelError
from vit_edge.spec import Tolerance, Verdict
from vit_edge.verify.arrays import Booleans, Floats, Integers, check_pair
from vit_edge.verify.metrics import (
    agreement,
    expected_calibration_error,
    label_ranks,
    logit_sqnr_db,
    mean_kl_divergence,
    same_prediction,
)
from vit_edge.verify.paired import (
    drop_interval,
    images_needed,
    images_needed_unlabelled,
    mcnemar_exact,
    paired_counts,
    verdict_of,
)
from vit_edge.verify.proportion import clopper_pearson

REPORTED_CONFIDENCE = 0.95  # of every interval that is shown; the verdict uses the tolerance's own
WORST_CLASSES = 10


@dataclasses.dataclass(frozen=True)
class ClassDrop:
    """One class on which the quantized model is less accurate."""

    label: str
    n: int  # images of this class
    drop: float  # points of top-1


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What stands behind a verdict beyond the stable keys; None where it takes labels and there are none."""

    tolerance: Tolerance
    disagreement_ci95: tuple[float, float]  # percent of images on which the predictions differ
    mean_kl: float  # nats
    only_float_right: int | None  # images
    only_quant_right: int | None
    mcnemar_p: float | None
    ece_float: float | None  # percent
    ece_quant: float | None


@dataclasses.dataclass(frozen=True)
class GateReport:
    """The verdict and what it rests on, in percent, points of top-1 and dB.

    Without labels `top1_*`, `top5_*`, `drop` and `drop_ci95` are None; `top5_*` are also None for a model of
    five classes or fewer, where every answer is in the top five.
    """

    n: int
    top1_float: float | None
    top1_quant: float | None
    top5_float: float | None
    top5_quant: float | None
    drop: float | None
    drop_ci95: tuple[float, float] | None
    agreement: float
    logit_sqnr_db: float  # infinite where all logits are identical
    verdict: Verdict
    images_needed: int | None  # further images; 0 where decided, None where no number would decide
    worst_classes: tuple[ClassDrop, ...]
    evidence: Evidence

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `vit-edge compare --json`.

        `logit_sqnr_db` is null where the logits are identical, as JSON has no infinity. `images_needed` is 0
        after PASS and FAIL, and null where no number of images at the observed rates would decide.
        """
        keys = [field.name for field in dataclasses.fields(self) if field.name != "evidence"]
        return {key: getattr(self, key) for key in keys} | {
            "drop_ci95": None if self.drop_ci95 is None else list(self.drop_ci95),
            "logit_sqnr_db": self.logit_sqnr_db if math.isfinite(self.logit_sqnr_db) else None,
            "verdict": self.verdict.value,
            "worst_classes": [dataclasses.asdict(worst) for worst in self.worst_classes],
        }


def judge(
    float_logits: Floats,
    quant_logits: Floats,
    labels: Integers | None,
    tolerance: Tolerance,
    class_names: Sequence[str] | None = None,
) -> GateReport:
    """Compare two models' logits on the same images and say what the images can show.

    With labels, the verdict is about the drop in top-1 accuracy: PASS if the upper end of its score interval
    (Tango 1998) is at most `tolerance.max_drop`, FAIL if the lower end is above it, else UNDECIDED.

    Without labels, it is about the share of images on which the two models' predictions differ (interval
    after Clopper and Pearson). Accuracy cannot drop by more than that share, so a PASS also holds for the
    drop. A FAIL refutes the claim that the models agree within the tolerance; it does not prove that accuracy
    was lost, as some changed predictions may be changes for the better: only labels can tell.

    Args:
        float_logits: (N, C) float32.
        quant_logits: (N, C) float32, the same images in the same order.
        labels: (N,) integer class indices, or None.
        tolerance: the drop accepted and the two-sided confidence asked for.
        class_names: C names in index order, for the report; indices stand in where None.

    Raises:
        DatasetError: no image, or labels that do not fit.
        ModelError: logits that are not finite or of different shapes, or names that do not fit the classes.
    """
    check_pair(float_logits, quant_logits)
    classes = float_logits.shape[1]
    if class_names is not None and len(class_names) != classes:
        raise ModelError(
            f"the model has {classes} logits per image but {len(class_names)} class names; give one name each"
        )
    if labels is None:
        return _judge_agreement(float_logits, quant_logits, tolerance)
    names = class_names or [str(index) for index in range(classes)]
    return _judge_accuracy(float_logits, quant_logits, labels, tolerance, names)


def _judge_agreement(float_logits: Floats, quant_logits: Floats, tolerance: Tolerance) -> GateReport:
    n = len(float_logits)
    differing = n - int(np.count_nonzero(same_prediction(float_logits, quant_logits)))
    return GateReport(
        n=n,
        top1_float=None,
        top1_quant=None,
        top5_float=None,
        top5_quant=None,
        drop=None,
        drop_ci95=None,
        agreement=agreement(float_logits, quant_logits),
        logit_sqnr_db=logit_sqnr_db(float_logits, quant_logits),
        verdict=verdict_of(clopper_pearson(differing, n, tolerance.confidence), tolerance),
        images_needed=images_needed_unlabelled(differing, n, tolerance),
        worst_classes=(),
        evidence=Evidence(
            tolerance=tolerance,
            disagreement_ci95=_disagreement_ci95(float_logits, quant_logits),
            mean_kl=mean_kl_divergence(float_logits, quant_logits),
            only_float_right=None,
            only_quant_right=None,
            mcnemar_p=None,
            ece_float=None,
            ece_quant=None,
        ),
    )


def _judge_accuracy(
    float_logits: Floats, quant_logits: Floats, labels: Integers, tolerance: Tolerance, names: Sequence[str]
) -> GateReport:
    float_ranks, quant_ranks = label_ranks(float_logits, labels), label_ranks(quant_logits, labels)
    counts = paired_counts(float_ranks == 0, quant_ranks == 0)
    has_top5 = len(names) > 5
    return GateReport(
        n=counts.n,
        top1_float=_percent_true(float_ranks < 1),
        top1_quant=_percent_true(quant_ranks < 1),
        top5_float=_percent_true(float_ranks < 5) if has_top5 else None,
        top5_quant=_percent_true(quant_ranks < 5) if has_top5 else None,
        drop=100.0 * (counts.only_float_right - counts.only_quant_right) / counts.n,
        drop_ci95=_percent(drop_interval(counts, REPORTED_CONFIDENCE)),
        agreement=agreement(float_logits, quant_logits),
        logit_sqnr_db=logit_sqnr_db(float_logits, quant_logits),
        verdict=verdict_of(drop_interval(counts, tolerance.confidence), tolerance),
        images_needed=images_needed(counts, tolerance),
        worst_classes=_worst_classes(float_ranks == 0, quant_ranks == 0, labels, names),
        evidence=Evidence(
            tolerance=tolerance,
            disagreement_ci95=_disagreement_ci95(float_logits, quant_logits),
            mean_kl=mean_kl_divergence(float_logits, quant_logits),
            only_float_right=counts.only_float_right,
            only_quant_right=counts.only_quant_right,
            mcnemar_p=mcnemar_exact(counts),
            ece_float=expected_calibration_error(float_logits, labels),
            ece_quant=expected_calibration_error(quant_logits, labels),
        ),
    )


def _disagreement_ci95(float_logits: Floats, quant_logits: Floats) -> tuple[float, float]:
    same = same_prediction(float_logits, quant_logits)
    return _percent(clopper_pearson(int(np.count_nonzero(~same)), same.size, REPORTED_CONFIDENCE))


def _worst_classes(
    float_right: Booleans, quant_right: Booleans, labels: Integers, names: Sequence[str]
) -> tuple[ClassDrop, ...]:
    """The largest drops per class; of equal ones those with more images first, then in index order."""
    change = float_right.astype(np.float64) - quant_right
    images = np.bincount(labels, minlength=len(names))
    drops = 100.0 * np.bincount(labels, weights=change, minlength=len(names)) / np.maximum(images, 1)
    order = np.lexsort((-images, -drops))[:WORST_CLASSES]
    return tuple(
        ClassDrop(names[index], int(images[index]), float(drops[index]))
        for index in order
        if drops[index] > 0
    )


def _percent(fractions: tuple[float, float]) -> tuple[float, float]:
    return 100.0 * fractions[0], 100.0 * fractions[1]


def _percent_true(outcomes: Booleans) -> float:
    return 100.0 * int(np.count_nonzero(outcomes)) / outcomes.size
