"""The gate for models that give each of several labels or not, at a probability of 0.5.

What is judged is the exact match: an image counts as right if all its labels are. It is a yes or no per image
as top-1 is, so the same intervals, tests and plans hold. Without labels, an image counts as changed if the
set of its labels did.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vit_edge.errors import DatasetError
from vit_edge.gate_report import GateReport, LabelFigures
from vit_edge.spec import Tolerance
from vit_edge.verify.answers import as_choice, present
from vit_edge.verify.arrays import Booleans, Floats, check_pair
from vit_edge.verify.bounded import mean_interval, per_scene
from vit_edge.verify.classes import class_drops
from vit_edge.verify.copies import Scenes
from vit_edge.verify.gate import REPORTED_CONFIDENCE, WORST_CLASSES, judge
from vit_edge.verify.metrics import logit_sqnr_db


def judge_labels(
    float_logits: Floats,
    quant_logits: Floats,
    truth: Booleans | None,
    tolerance: Tolerance,
    names: Sequence[str] | None = None,
    *,
    sequential: bool = False,
    scenes: Scenes | None = None,
) -> GateReport:
    """As `judge`, of exact matches; per-label accuracy and F1 stand in `evidence.labels`.

    Args:
        float_logits: (N, C).
        quant_logits: (N, C).
        truth: (N, C) bool, or None.
        tolerance: what is accepted, of exact matches or of changed label sets.
        names: of the C labels.
        sequential: as for `judge`.
        scenes: as for `judge`.

    Raises:
        DatasetError: no image, or labels of another shape.
        ModelError: logits that are not finite or of different shapes.
    """
    check_pair(float_logits, quant_logits)
    given, found = present(float_logits), present(quant_logits)
    same = as_choice((given == found).all(axis=1))
    always = as_choice(np.ones(len(same), np.bool_))
    blind = judge(always, same, None, tolerance, sequential=sequential, scenes=scenes)
    evidence = dataclasses.replace(
        blind.evidence, mean_kl=_divergence(float_logits, quant_logits), expected=None
    )
    ratio = logit_sqnr_db(float_logits, quant_logits)
    # the bet on probabilities is that of single labels, so the verdict is that of the changed sets alone
    blind = dataclasses.replace(blind, logit_sqnr_db=ratio, evidence=evidence)
    if truth is None:
        return blind
    if truth.shape != given.shape:
        raise DatasetError(f"labels of shape {truth.shape} do not fit answers of shape {given.shape}")
    of_float, of_quant = (as_choice((each == truth).all(axis=1)) for each in (given, found))
    yes = np.zeros(len(truth), np.int64)
    exact = judge(of_float, of_quant, yes, tolerance, sequential=sequential, scenes=scenes)
    columns = np.tile(np.arange(truth.shape[1]), len(truth))
    called = names or [str(index) for index in range(truth.shape[1])]
    drops = class_drops((given == truth).ravel(), (found == truth).ravel(), columns, list(called), sequential)
    evidence = dataclasses.replace(
        exact.evidence,
        disagreement_ci95=evidence.disagreement_ci95,
        mean_kl=evidence.mean_kl,
        expected=None,
        contradicted=False,
        mix=None,
        ece_float=None,
        ece_quant=None,
        significant_classes=tuple(each for each in drops if each.significant),
        labels=_figures(given, found, truth, exact, scenes),
    )
    return dataclasses.replace(
        exact,
        top1_float=None,
        top1_quant=None,
        agreement=blind.agreement,
        logit_sqnr_db=ratio,
        worst_classes=drops[:WORST_CLASSES],
        evidence=evidence,
    )


def _figures(
    given: Booleans, found: Booleans, truth: Booleans, exact: GateReport, scenes: Scenes | None
) -> LabelFigures:
    right = [(each == truth).mean(axis=1) for each in (given, found)]
    low, high = mean_interval(per_scene(right[0] - right[1], scenes), REPORTED_CONFIDENCE)
    return LabelFigures(
        exact_float=exact.top1_float or 0.0,
        exact_quant=exact.top1_quant or 0.0,
        accuracy_float=100.0 * float(right[0].mean()),
        accuracy_quant=100.0 * float(right[1].mean()),
        accuracy_drop_ci95=(100.0 * low, 100.0 * high),
        f1_micro_float=100.0 * f1_micro(given, truth),
        f1_micro_quant=100.0 * f1_micro(found, truth),
        f1_macro_float=100.0 * f1_macro(given, truth),
        f1_macro_quant=100.0 * f1_macro(found, truth),
    )


def f1_micro(given: Booleans, truth: Booleans) -> float:
    """2 TP / (2 TP + FP + FN) over all images and labels; 0 where no label is given or true."""
    return float(_f1(given.ravel()[:, None], truth.ravel()[:, None])[0])


def f1_macro(given: Booleans, truth: Booleans) -> float:
    """The mean over the labels of the F1 of each; of a label that is never given or true it is 0."""
    return float(_f1(given, truth).mean())


def _f1(given: Booleans, truth: Booleans) -> Floats:
    hits = np.count_nonzero(given & truth, axis=0)
    wrong = np.count_nonzero(given != truth, axis=0)
    scores: Floats = np.where(hits > 0, 2.0 * hits / np.maximum(2 * hits + wrong, 1), 0.0)
    return scores


def _divergence(float_logits: Floats, quant_logits: Floats) -> float:
    """Mean over images of the Kullback-Leibler divergences of all labels' yes or no together, in nats."""
    z, w = float_logits.astype(np.float64), quant_logits.astype(np.float64)
    yes = 0.5 * (1.0 + np.tanh(0.5 * z))
    # log(1 + e^w) - log(1 + e^z) + p (z - w), with p the sigmoid of z
    terms = np.logaddexp(0.0, w) - np.logaddexp(0.0, z) + yes * (z - w)
    return max(0.0, float(terms.sum(axis=1).mean()))
