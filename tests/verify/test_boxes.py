"""How far the boxes of two models agree: matched one to one, class by class; and the verdict on it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_edge.errors import DatasetError
from vit_edge.gate_report import Measure
from vit_edge.spec import MapLimits, Tolerance, Verdict
from vit_edge.verify.boxes import Boxes, box_agreement, read_boxes
from vit_edge.verify.maps import MapChanges, changed_maps, judge_maps, map_changes

LEFT, RIGHT = (0.1, 0.1, 0.4, 0.5), (0.6, 0.1, 0.9, 0.5)


def boxes(*each: tuple[int, float, tuple[float, float, float, float]]) -> Boxes:
    classes, scores, corners = zip(*each, strict=True) if each else ((), (), ())
    return Boxes(
        np.asarray(classes, np.intp),
        np.asarray(scores, np.float64),
        np.asarray(corners, np.float64).reshape(-1, 4),
    )


def moved(box: tuple[float, float, float, float], by: float) -> tuple[float, float, float, float]:
    return box[0] + by, box[1], box[2] + by, box[3]


@pytest.mark.parametrize(
    ("exact", "other", "expected"),
    [
        (boxes((0, 0.9, LEFT)), boxes((0, 0.6, LEFT)), 1.0),
        (boxes((0, 0.9, LEFT)), boxes((1, 0.9, LEFT)), 0.0),
        (boxes((0, 0.9, LEFT)), boxes((0, 0.49, LEFT)), 0.0),
        (boxes((0, 0.9, LEFT), (0, 0.9, RIGHT)), boxes((0, 0.9, RIGHT)), 2 / 3),
        (boxes((0, 0.9, LEFT)), boxes((0, 0.9, LEFT), (0, 0.8, LEFT)), 2 / 3),  # one box has one partner
        (boxes((0, 0.9, LEFT)), boxes((0, 0.9, moved(LEFT, 0.09))), 1.0),  # 0.21 of 0.39: 0.538
        (boxes((0, 0.9, LEFT)), boxes((0, 0.9, moved(LEFT, 0.11))), 0.0),  # 0.19 of 0.41: 0.463
        (boxes((0, 0.4, LEFT)), boxes(), 1.0),
        (boxes((0, 0.9, (1.2, 0.1, 1.5, 0.5))), boxes(), 1.0),  # beyond what the model saw
        (boxes((0, 0.9, (-0.3, 0.1, 0.4, 0.5))), boxes((0, 0.9, (0.0, 0.1, 0.4, 0.5))), 1.0),
    ],
    ids=["same", "class", "unsure", "missing", "twice", "near", "far", "none", "outside", "cut"],
)
def test_agreement_is_the_share_that_is_matched(exact: Boxes, other: Boxes, expected: float) -> None:
    assert box_agreement(exact, other) == pytest.approx(expected)


def test_the_nearest_partner_comes_first() -> None:
    """Box by box in their order, the first would take the partner of the second."""
    exact = boxes((0, 0.9, moved(LEFT, 0.05)), (0, 0.9, LEFT))
    other = boxes((0, 0.9, LEFT), (0, 0.9, moved(LEFT, 0.12)))
    assert box_agreement(exact, other) == 1.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6))
def test_agreement_is_symmetric_and_of_oneself_complete(seed: int, one: int, other: int) -> None:
    rng = np.random.default_rng(seed)
    heads = []
    for count in (one, other):
        logits, places = rng.normal(0, 4, (count, 3)), rng.uniform(0.2, 0.6, (count, 4))
        heads.append(read_boxes(logits.astype(np.float32), places.astype(np.float32)))
    found = box_agreement(heads[0], heads[1])
    assert 0 <= found <= 1
    assert found == pytest.approx(box_agreement(heads[1], heads[0]))
    assert box_agreement(heads[0], heads[0]) == 1.0


def test_a_score_is_the_softmax_over_all_and_nothing_is_no_class() -> None:
    read = read_boxes(np.asarray([[1, 2, 5]], np.float32), np.asarray([[0.5, 0.5, 0.2, 0.4]], np.float32))
    assert read.classes.tolist() == [1]
    assert read.scores[0] == pytest.approx(np.exp(2) / (np.exp(1) + np.exp(2) + np.exp(5)))
    np.testing.assert_allclose(read.corners, [[0.4, 0.3, 0.6, 0.7]], atol=1e-7)


def changes(agreement: list[float], shown: float = 2.0) -> MapChanges:
    logits = np.random.default_rng(0).normal(size=(len(agreement), 5, 3)).astype(np.float32)
    found = map_changes("logits", logits, -logits)  # nothing of the numbers themselves agrees
    return dataclasses.replace(
        found,
        output="pred_boxes",
        boxes=np.asarray(agreement),
        shown=np.full(len(agreement), shown),
    )


@pytest.mark.parametrize(
    ("spoilt", "verdict"), [(0, Verdict.PASS), (4, Verdict.UNDECIDED), (60, Verdict.FAIL)]
)
def test_the_verdict_is_about_images_whose_boxes_changed(spoilt: int, verdict: Verdict) -> None:
    report = judge_maps([changes([0.8] * spoilt + [1.0] * (150 - spoilt))], Tolerance(max_changed=3.0))
    (found,) = report.evidence.maps
    assert (report.verdict, found.verdict, found.measure) == (verdict, verdict, Measure.BOXES)
    assert found.beyond == pytest.approx(100 * spoilt / 150)
    assert found.mean == pytest.approx(1 - 0.2 * spoilt / 150)


def test_the_limit_is_the_one_that_was_asked_for() -> None:
    kept = changed_maps([changes([0.8, 1.0])], MapLimits(min_boxes=0.75))[1].argmax(axis=1)
    assert not kept.any()
    kept = changed_maps([changes([0.8, 1.0])], MapLimits())[1].argmax(axis=1)
    assert kept.tolist() == [1, 0]


def test_batches_join_to_the_whole() -> None:
    whole, parts = changes([0.5, 1.0, 0.75]), changes([0.5]).joined(changes([1.0, 0.75]))
    rows = np.asarray([2, 0])
    for field in ("boxes", "shown"):
        np.testing.assert_array_equal(getattr(parts, field), getattr(whole, field))
        np.testing.assert_array_equal(getattr(whole.at(rows), field), getattr(whole, field)[rows])


def test_a_float_model_that_shows_nothing_proves_nothing() -> None:
    with pytest.raises(DatasetError, match="shows no box"):
        judge_maps([changes([1.0] * 10, shown=0.0)], Tolerance())


@pytest.mark.parametrize("limit", [0.0, -1.0, 1.5])
def test_a_limit_that_every_image_or_none_is_within_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="min_boxes"):
        MapLimits(min_boxes=limit)
