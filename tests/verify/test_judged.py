"""What a verdict is about, in words, for every kind of model with and without labels."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from vit_edge.gate_report import GateReport, Plan
from vit_edge.spec import OutputKind, Tolerance, Verdict
from vit_edge.verify import judge, judge_kind
from vit_edge.verify.judged import Judged, failure, sentences, would_decide
from vit_edge.verify.maps import judge_maps, map_changes

TOLERANCE = Tolerance(max_drop=1.0, max_changed=4.0)
COUNT, WRONG = 200, 20


def classes(known: bool) -> GateReport:
    """A tenth of the images have another class, all of them right before."""
    truth = np.arange(COUNT) % 5
    sure = np.eye(5, dtype=np.float32)[truth] * 9
    other = np.where(np.arange(COUNT)[:, None] < WRONG, np.roll(sure, 1, axis=1), sure)
    return judge(sure, other, truth if known else None, TOLERANCE)


def labels() -> GateReport:
    truth = np.random.default_rng(0).random((COUNT, 4)) < 0.4
    sure = np.where(truth, 3.0, -3.0).astype(np.float32)
    other = sure.copy()
    other[:WRONG, 2] *= -1
    return judge_kind(OutputKind.MULTI_LABEL, sure, other, truth, TOLERANCE)


def values(known: bool) -> GateReport:
    truth = np.linspace(0.0, 1.0, COUNT)[:, None]
    return judge_kind(OutputKind.REGRESSION, truth, truth + 0.5, truth if known else None, TOLERANCE)


def maps() -> GateReport:
    sure = np.random.default_rng(0).random((COUNT, 1, 6, 6)).astype(np.float32)
    other = np.where(np.arange(COUNT)[:, None, None, None] < WRONG, sure[::-1], sure)
    return judge_maps([map_changes("mask", sure, other)], TOLERANCE)


def boxes() -> GateReport:
    """A tenth of the images lose their only box."""
    numbers = np.random.default_rng(0).random((COUNT, 3, 4)).astype(np.float32)
    kept = (np.arange(COUNT) >= WRONG).astype(np.float64)
    same = map_changes("pred_boxes", numbers, numbers)
    return judge_maps([dataclasses.replace(same, boxes=kept, shown=np.ones(COUNT))], TOLERANCE)


@pytest.mark.parametrize(
    ("make", "claim", "observed"),
    [
        (lambda: classes(True), "a drop in top-1 of at most 1 point", 10.0),
        (lambda: classes(False), "a share of changed predictions of at most 4 %", 10.0),
        (labels, "a drop in exact matches of at most 1 point", 10.0),
        (lambda: values(True), "a growth of the mean absolute error of at most 1 % of the range", 50.0),
        (lambda: values(False), "a mean absolute change of at most 4 % of the range", 50.0),
        (maps, "a share of images with a changed map of at most 4 %", 10.0),
        (boxes, "a share of images with changed boxes of at most 4 %", 10.0),
    ],
)
def test_every_kind_has_its_quantity(make: Callable[[], GateReport], claim: str, observed: float) -> None:
    report = make()
    judged = Judged.of(report)
    assert judged.claim == claim
    assert judged.observed == pytest.approx(observed)
    assert judged.ci95[0] <= observed <= judged.ci95[1]
    assert report.verdict is Verdict.FAIL
    low, high = judged.ci95
    assert failure(report) == (
        f"FAIL: {judged.what} {observed:.2f}{judged.unit} (95 % interval {low:.2f} to {high:.2f}) "
        f"on 200 images, tolerated {judged.tolerated}"
    )


@pytest.mark.parametrize(
    ("verdict", "begins", "ends"),
    [
        (Verdict.PASS, "Shown at 95 % confidence: a drop in top-1 of at most 1 point. On 200", ")."),
        (Verdict.FAIL, "Refuted at 95 % confidence: a drop in top-1 of at most 1 point.", ")."),
        (
            Verdict.UNDECIDED,
            "Not settled at 95 % confidence: a drop in top-1 of at most 1 point.",
            "What would decide: 70 fresh images, judged by themselves, or 200 more, judged together with "
            "these (80 % power).",
        ),
    ],
)
def test_a_verdict_in_full_sentences(verdict: Verdict, begins: str, ends: str) -> None:
    report = classes(True)
    evidence = dataclasses.replace(report.evidence, plan=Plan(0.8, together=200, fresh=70))
    text = sentences(dataclasses.replace(report, verdict=verdict, evidence=evidence))
    assert text.startswith(begins)
    assert text.endswith(ends)
    assert "On 200 images it is 10.00 points (95 % interval " in text


@pytest.mark.parametrize(
    ("plan", "needed", "words"),
    [
        (None, None, "not even a million images like these"),
        (None, 70, "about 70 more images like these"),
        (Plan(0.8, together=None, fresh=None), None, "not even a million images like these"),
        (Plan(0.8, together=90, fresh=None), 90, "90 more, judged together with these (80 % power)"),
        (Plan(0.8, together=None, fresh=80), 80, "80 fresh images, judged by themselves (80 % power)"),
    ],
)
def test_what_would_decide_is_the_plan(plan: Plan | None, needed: int | None, words: str) -> None:
    report = classes(True)
    evidence = dataclasses.replace(report.evidence, plan=plan, expected=None)
    undecided = dataclasses.replace(
        report, verdict=Verdict.UNDECIDED, images_needed=needed, evidence=evidence
    )
    assert would_decide(undecided) == words
    assert failure(undecided).endswith(f"; would decide: {words}")


def test_points_are_counted_as_english_does() -> None:
    report = classes(True)
    evidence = dataclasses.replace(report.evidence, tolerance=Tolerance(max_drop=1.5))
    assert Judged.of(dataclasses.replace(report, evidence=evidence)).tolerated == "1.5 points"
