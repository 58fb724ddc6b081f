"""The gate: do these images show that the quantized model keeps the float model's accuracy?"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vit_edge.errors import ModelError
from vit_edge.gate_report import Evidence, ExpectedDrop, GateReport
from vit_edge.spec import Tolerance, Verdict
from vit_edge.verify.arrays import Booleans, Floats, Integers, check_pair
from vit_edge.verify.classes import class_drops, class_mix
from vit_edge.verify.copies import Scenes
from vit_edge.verify.expected import expected_drop
from vit_edge.verify.metrics import (
    expected_calibration_error,
    label_ranks,
    logit_sqnr_db,
    mean_kl_divergence,
    same_prediction,
)
from vit_edge.verify.paired import mcnemar_exact
from vit_edge.verify.plan import plan_drop, plan_share
from vit_edge.verify.verdict import FIXED, SEQUENTIAL, verdict_of

REPORTED_CONFIDENCE = 0.95  # of every interval that is shown; the verdict uses the tolerance's own
WORST_CLASSES = 10


def judge(
    float_logits: Floats,
    quant_logits: Floats,
    labels: Integers | None,
    tolerance: Tolerance,
    class_names: Sequence[str] | None = None,
    *,
    sequential: bool = False,
    scenes: Scenes | None = None,
) -> GateReport:
    """Compare two models' logits on the same images and say what the images can show.

    With labels, the verdict is about the drop in top-1 accuracy: PASS if the upper end of its interval (exact
    unconditional, see `unconditional`) is at most `tolerance.max_drop`, FAIL if the lower end is above it,
    else UNDECIDED.

    Without labels, it is about the share of images on which the two models' predictions differ (interval
    after Clopper and Pearson), of which `tolerance.max_changed` percent are accepted. Accuracy cannot drop by
    more than that share. A FAIL refutes the claim that so few predictions change; it does not prove that
    accuracy was lost, as some changed predictions may be changes for the better: only labels can tell. A PASS
    is withheld where the float model's own probabilities refute the tolerated drop (see `expected`).

    Either claim is about the images that these are a random sample of. With `sequential` the intervals are
    confidence sequences (Waudby-Smith and Ramdas 2024) that allow for having stopped when they decided.

    Args:
        float_logits: (N, C) float32.
        quant_logits: (N, C) float32, the same images in the same order.
        labels: (N,) integer class indices, or None.
        tolerance: the drop accepted and the two-sided confidence asked for.
        class_names: C names in index order, for the report; indices stand in where None.
        sequential: the images came in random order and their number was not fixed beforehand, or some of them
            were looked at before.
        scenes: which images belong together, see `copies`; shares, drop and intervals then count each scene
            as one image. None where all are independent.

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
    weigh = _Weigh(None if scenes is None else scenes.weights)
    blind = _judge_agreement(float_logits, quant_logits, tolerance, sequential, weigh)
    if labels is not None:
        names = class_names or [str(index) for index in range(classes)]
        blind = _judge_accuracy(blind, float_logits, quant_logits, labels, names, weigh)
    expected = expected_drop(
        float_logits, quant_logits, labels, tolerance, weigh.weights, sequential=sequential
    )
    return _beside(blind, expected)


def _beside(report: GateReport, expected: ExpectedDrop) -> GateReport:
    """The report with what the float model's probabilities say, which never overrules labels."""
    evidence = dataclasses.replace(report.evidence, expected=expected)
    if report.drop_ci95 is None:
        if report.verdict is Verdict.PASS and expected.verdict is Verdict.FAIL:
            return dataclasses.replace(
                report, verdict=Verdict.UNDECIDED, images_needed=None, evidence=evidence
            )
        return dataclasses.replace(report, evidence=evidence)
    if expected.ci95 is not None:
        apart = expected.ci95[0] > report.drop_ci95[1] or expected.ci95[1] < report.drop_ci95[0]
        evidence = dataclasses.replace(evidence, contradicted=apart)
    return dataclasses.replace(report, evidence=evidence)


@dataclasses.dataclass(frozen=True, eq=False)
class _Weigh:
    """Counts images, or scenes by parts."""

    weights: NDArray[np.float64] | None  # (N,); None: one each

    def count(self, chosen: Booleans) -> float:
        """How many there are of those that are chosen."""
        return float(np.count_nonzero(chosen) if self.weights is None else self.weights[chosen].sum())

    def percent(self, chosen: Booleans) -> float:
        """Their share."""
        return 100.0 * self.count(chosen) / self.count(np.ones_like(chosen))


def _judge_agreement(
    float_logits: Floats, quant_logits: Floats, tolerance: Tolerance, sequential: bool, weigh: _Weigh
) -> GateReport:
    method = SEQUENTIAL if sequential else FIXED
    same = same_prediction(float_logits, quant_logits)
    n, differing = weigh.count(np.ones_like(same)), weigh.count(~same)
    verdict = verdict_of(method.share_interval(differing, n, tolerance.confidence), tolerance.max_changed)
    undecided = verdict is Verdict.UNDECIDED
    plan = plan_share(differing, n, tolerance, sequential=sequential) if undecided else None
    return GateReport(
        n=same.size,
        top1_float=None,
        top1_quant=None,
        top5_float=None,
        top5_quant=None,
        drop=None,
        drop_ci95=None,
        agreement=weigh.percent(same),
        logit_sqnr_db=logit_sqnr_db(float_logits, quant_logits),
        verdict=verdict,
        images_needed=0 if plan is None else plan.images,
        worst_classes=(),
        evidence=Evidence(
            tolerance=tolerance,
            sequential=sequential,
            disagreement_ci95=_percent(method.share_interval(differing, n, REPORTED_CONFIDENCE)),
            mean_kl=mean_kl_divergence(float_logits, quant_logits),
            plan=plan,
            scenes=None if weigh.weights is None else round(n),
        ),
    )


def _judge_accuracy(
    blind: GateReport,
    float_logits: Floats,
    quant_logits: Floats,
    labels: Integers,
    names: Sequence[str],
    weigh: _Weigh,
) -> GateReport:
    tolerance, sequential = blind.evidence.tolerance, blind.evidence.sequential
    method = SEQUENTIAL if sequential else FIXED
    float_ranks, quant_ranks = label_ranks(float_logits, labels), label_ranks(quant_logits, labels)
    float_right, quant_right = float_ranks == 0, quant_ranks == 0
    only_float, only_quant = float_right & ~quant_right, ~float_right & quant_right
    lost, gained, n = (weigh.count(each) for each in (only_float, only_quant, np.ones_like(only_float)))
    has_top5 = len(names) > 5
    verdict = verdict_of(method.drop_interval(lost, gained, n, tolerance.confidence), tolerance.max_drop)
    undecided = verdict is Verdict.UNDECIDED
    plan = plan_drop(lost, gained, n, tolerance, sequential=sequential) if undecided else None
    drops = class_drops(float_right, quant_right, labels, names, sequential, weigh.weights)
    return dataclasses.replace(
        blind,
        top1_float=weigh.percent(float_right),
        top1_quant=weigh.percent(quant_right),
        top5_float=weigh.percent(float_ranks < 5) if has_top5 else None,
        top5_quant=weigh.percent(quant_ranks < 5) if has_top5 else None,
        drop=100.0 * (lost - gained) / n,
        drop_ci95=_percent(method.drop_interval(lost, gained, n, REPORTED_CONFIDENCE)),
        verdict=verdict,
        images_needed=0 if plan is None else plan.images,
        worst_classes=drops[:WORST_CLASSES],
        evidence=dataclasses.replace(
            blind.evidence,
            only_float_right=int(np.count_nonzero(only_float)),
            only_quant_right=int(np.count_nonzero(only_quant)),
            mcnemar_p=None if sequential else mcnemar_exact(lost, gained),
            significant_classes=tuple(each for each in drops if each.significant),
            ece_float=expected_calibration_error(float_logits, labels),
            ece_quant=expected_calibration_error(quant_logits, labels),
            mix=class_mix(float_right, quant_right, labels),
            plan=plan,
        ),
    )


def _percent(fractions: tuple[float, float]) -> tuple[float, float]:
    return 100.0 * fractions[0], 100.0 * fractions[1]
