"""The gate for models that give values: by how much they change, as a share of the range that they span."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from vit_edge.errors import DatasetError, ModelError
from vit_edge.gate_report import Evidence, GateReport, ValueFigures
from vit_edge.spec import Tolerance, Verdict
from vit_edge.verify.arrays import Floats
from vit_edge.verify.bounded import images_to_decide, mean_interval, per_scene
from vit_edge.verify.copies import Scenes
from vit_edge.verify.gate import REPORTED_CONFIDENCE
from vit_edge.verify.verdict import Interval, verdict_of
from vit_edge.verify.words import sqnr_db

Reals = NDArray[np.float64]


def judge_values(
    float_values: Floats,
    quant_values: Floats,
    truth: Floats | None,
    tolerance: Tolerance,
    scenes: Scenes | None = None,
) -> GateReport:
    """Compare two models' values on the same images.

    With true values the verdict is about how much the mean absolute error grows, without them about the mean
    absolute change. Either is taken in percent of the range that the true values (or else the float model's)
    span, per value and averaged over an image's values; what exceeds the range counts as all of it, so that
    an interval for bounded values holds.

    Args:
        float_values: (N, T) floating point.
        quant_values: (N, T), the same images in the same order.
        truth: (N, T), or None.
        tolerance: `max_drop` percent of growth, or without true values `max_changed` percent of change.

        scenes: which images belong together, see `copies`; each scene then counts as its mean.

    Raises:
        DatasetError: no image, true values of another shape, or all of them the same.
        ModelError: values that are not finite or of different shapes.
    """
    given, found = (np.asarray(each, np.float64) for each in (float_values, quant_values))
    if given.shape != found.shape or given.ndim != 2:
        raise ModelError(f"values of shapes {given.shape} and {found.shape} cannot be compared")
    if not len(given):
        raise DatasetError("there are no values to judge; give at least one image")
    if not (np.isfinite(given).all() and np.isfinite(found).all()):
        raise ModelError("a model gives values that are not finite; check the export")
    if truth is not None and truth.shape != given.shape:
        raise DatasetError(
            f"{truth.shape[-1]} true values per image do not fit a model of {given.shape[1]}; "
            "correct labels.csv"
        )
    spans = np.ptp(given if truth is None else np.asarray(truth, np.float64), axis=0)
    if not (spans > 0).all():
        raise DatasetError(
            "a value is the same on all images, so there is no range to measure its change by; give images "
            "that differ in it"
        )
    changes = per_scene(np.minimum(np.abs(found - given) / spans, 1.0).mean(axis=1), scenes)
    report = _report(given, found, changes, tolerance, spans)
    if truth is None:
        return report
    errors = np.abs(given - truth), np.abs(found - truth)
    growth = per_scene(np.clip((errors[1] - errors[0]) / spans, -1.0, 1.0).mean(axis=1), scenes)
    return _against(report, (float(errors[0].mean()), float(errors[1].mean())), growth)


def _report(given: Reals, found: Reals, changes: Reals, tolerance: Tolerance, spans: Reals) -> GateReport:
    verdict = verdict_of(mean_interval(changes, tolerance.confidence), tolerance.max_changed)
    noise = float(((given - found) ** 2).sum())
    signal = float((given**2).sum())
    return GateReport(
        n=len(given),
        top1_float=None,
        top1_quant=None,
        top5_float=None,
        top5_quant=None,
        drop=None,
        drop_ci95=None,
        agreement=100.0 * (1.0 - float(changes.mean())),
        logit_sqnr_db=sqnr_db(signal, noise),
        verdict=verdict,
        images_needed=_needed(verdict, changes, tolerance.max_changed, tolerance.confidence),
        worst_classes=(),
        evidence=Evidence(
            tolerance=tolerance,
            sequential=False,
            disagreement_ci95=_percent(mean_interval(changes, REPORTED_CONFIDENCE)),
            mean_kl=None,
            values=ValueFigures(
                mean_change=float(np.abs(found - given).mean()),
                largest_change=float(np.abs(found - given).max()),
                spans=tuple(float(span) for span in spans),
            ),
        ),
    )


def _against(report: GateReport, errors: tuple[float, float], growth: Reals) -> GateReport:
    tolerance, figures = report.evidence.tolerance, report.evidence.values
    verdict = verdict_of(mean_interval(growth, tolerance.confidence), tolerance.max_drop)
    assert figures is not None  # noqa: S101  `_report` has set it
    with_errors = dataclasses.replace(figures, error_float=errors[0], error_quant=errors[1])
    return dataclasses.replace(
        report,
        drop=100.0 * float(growth.mean()),
        drop_ci95=_percent(mean_interval(growth, REPORTED_CONFIDENCE)),
        verdict=verdict,
        images_needed=_needed(verdict, growth, tolerance.max_drop, tolerance.confidence),
        evidence=dataclasses.replace(report.evidence, values=with_errors),
    )


def _needed(verdict: Verdict, values: Reals, limit: float, confidence: float) -> int | None:
    return images_to_decide(values, limit, confidence) if verdict is Verdict.UNDECIDED else 0


def _percent(fractions: Interval) -> Interval:
    return 100.0 * fractions[0], 100.0 * fractions[1]
