"""Boxes and masks against truth: measures are those of outside references, and the verdict errs rarely."""

import contextlib
import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from vit_edge.errors import DatasetError
from vit_edge.gate_report import GateReport
from vit_edge.spec import Tolerance, Verdict
from vit_edge.truth_report import TruthMeasure, TruthScore
from vit_edge.verify.answers import as_choice
from vit_edge.verify.average_precision import BoxScores
from vit_edge.verify.copies import Scenes
from vit_edge.verify.gate import judge
from vit_edge.verify.matching import TrueBoxes, match_boxes
from vit_edge.verify.mean_overlap import MaskScores, mask_scores
from vit_edge.verify.proportion import clopper_pearson
from vit_edge.verify.scores import Scores
from vit_edge.verify.truth import judge_truth

CLASSES = 3
Given = tuple[np.ndarray, np.ndarray, np.ndarray]  # classes, scores, corners of one image


def some_boxes(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes and corners on a coarse grid, so that equal overlaps and equal boxes come up."""
    low = rng.integers(0, 8, (count, 2))
    return rng.integers(0, CLASSES, count), np.concatenate(
        [low, low + rng.integers(1, 6, (count, 2))], 1
    ) * 4.0


def a_set(seed: int, images: int, crowds: bool) -> tuple[list[TrueBoxes], list[Given]]:
    rng = np.random.default_rng(seed)
    truths, answers = [], []
    for _ in range(images):
        classes, corners = some_boxes(rng, int(rng.integers(0, 5)))
        truths.append(TrueBoxes(classes, corners, rng.random(len(classes)) < (0.25 if crowds else 0.0)))
        near = corners + rng.integers(-1, 2, corners.shape) * 2.0
        other = some_boxes(rng, int(rng.integers(0, 6)))
        found = np.concatenate([near, other[1]]), np.concatenate([classes, other[0]])
        order = rng.permutation(len(found[0]))
        # scores differ, as among equal ones the order is the implementation's own
        scores = rng.permutation(len(order) * 7)[: len(order)] / 100 + rng.random(len(order)) * 1e-3
        answers.append((found[1][order], scores, found[0][order]))
    return truths, answers


def scored(truths: list[TrueBoxes], answers: list[Given]) -> BoxScores:
    objects = [np.bincount(each.classes[~each.crowd], minlength=CLASSES) for each in truths]
    matches = [match_boxes(*answer, truth) for answer, truth in zip(answers, truths, strict=True)]
    return BoxScores(tuple(matches), np.asarray(objects, np.float64))


def by_pycocotools(truths: list[TrueBoxes], answers: list[Given]) -> tuple[float, float]:
    """mAP@0.5:0.95 and mAP@0.5; -1 where no class has a true box."""
    reason = "pycocotools is the reference (pip install pycocotools)"
    coco = pytest.importorskip("pycocotools.coco", reason=reason)
    evaluation = pytest.importorskip("pycocotools.cocoeval", reason=reason)

    def listed(boxes: np.ndarray) -> list[list[float]]:
        return [[left, top, right - left, bottom - top] for left, top, right, bottom in boxes.tolist()]

    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": number + 1, "width": 99, "height": 99} for number in range(len(truths))],
            "categories": [{"id": index + 1, "name": str(index)} for index in range(CLASSES)],
            "annotations": [
                {
                    "image_id": number + 1,
                    "category_id": int(index) + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(crowd),
                }
                for number, each in enumerate(truths)
                for index, box, crowd in zip(each.classes, listed(each.corners), each.crowd, strict=True)
            ],
        }
        for number, each in enumerate(truth.dataset["annotations"]):
            each["id"] = number + 1
        truth.createIndex()
        given_boxes = [
            {"image_id": number + 1, "category_id": int(index) + 1, "bbox": box, "score": float(score)}
            for number, (classes, scores, corners) in enumerate(answers)
            for index, score, box in zip(classes, scores, listed(corners), strict=True)
        ]
        judged = evaluation.COCOeval(truth, truth.loadRes(given_boxes), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return float(judged.stats[0]), float(judged.stats[1])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.booleans())
def test_average_precision_is_that_of_pycocotools(seed: int, images: int, crowds: bool) -> None:
    truths, answers = a_set(seed, images, crowds)
    if not any(len(answer[0]) for answer in answers):
        return  # which pycocotools does not read
    expected = by_pycocotools(truths, answers)
    found = scored(truths, answers)
    if not found.present:
        assert expected == (-1.0, -1.0)
        return
    assert found.values(np.ones(images)) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 3), min_size=2, max_size=5))
def test_a_weight_of_two_is_the_image_twice(seed: int, weights: list[int]) -> None:
    truths, answers = a_set(seed, len(weights), True)
    found = scored(truths, answers)
    if not found.present:
        return
    twice = np.repeat(np.arange(len(weights)), weights)
    repeated = found.at(twice).values(np.ones(len(twice)))
    np.testing.assert_allclose(found.values(np.asarray(weights, np.float64)), repeated, atol=1e-9)


def test_at_most_a_hundred_boxes_of_a_class_count() -> None:
    truth = TrueBoxes(np.zeros(1, np.intp), np.asarray([[0, 0, 10, 10.0]]), np.zeros(1, np.bool_))
    corners = np.tile([50.0, 50.0, 60.0, 60.0], (101, 1))
    corners[100] = truth.corners[0]  # the least sure one is right
    answer = np.zeros(101, np.intp), np.linspace(0.9, 0.1, 101), corners
    assert scored([truth], [answer]).values(np.ones(1))[0] == 0.0
    assert scored([truth], [(answer[0][1:], answer[1][1:], corners[1:])]).values(np.ones(1))[0] > 0


def some_masks(seed: int, images: int = 4) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    true = [rng.integers(0, CLASSES, 60) for _ in range(images)]
    return true, [np.where(rng.random(60) < 0.3, rng.integers(0, CLASSES + 1, 60), each) for each in true]


def of_masks(true: list[np.ndarray], found: list[np.ndarray]) -> MaskScores:
    pairs = zip(found, true, strict=True)
    return MaskScores.joined([mask_scores(one, other, CLASSES + 1) for one, other in pairs])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_mean_overlap_is_scikit_learns_jaccard_score(seed: int) -> None:
    true, found = some_masks(seed)
    everything = np.concatenate(true), np.concatenate(found)
    expected = jaccard_score(*everything, labels=np.unique(everything[0]), average="macro")
    assert of_masks(true, found).values(np.ones(4))[0] == pytest.approx(expected)


def agreement(images: int, tolerance: Tolerance) -> GateReport:
    same = as_choice(np.ones(images, np.bool_))
    return judge(same, same, None, tolerance)


def judged(
    pair: tuple[Scores, Scores], limit: float = 1.0, scenes: Scenes | None = None, confidence: float = 0.95
) -> GateReport:
    tolerance = Tolerance(max_drop=limit, confidence=confidence)
    report = judge_truth(agreement(pair[0].images, tolerance), pair, ["a", "b", "c", "d"], scenes)
    for each in report.evidence.truth:
        check(each)
    return report


def check(found: TruthScore) -> None:
    assert found.drop == pytest.approx(found.score_float - found.score_quant)
    inner, outer = found.drop_bootstrap95, found.drop_ci95
    assert outer[0] <= inner[0] <= found.drop <= inner[1] <= outer[1]
    assert found.score_float_ci95[0] <= found.score_float <= found.score_float_ci95[1]
    assert found.score_quant_ci95[0] <= found.score_quant <= found.score_quant_ci95[1]


def spoilt_boxes(images: int, spoilt: int) -> tuple[BoxScores, BoxScores]:
    """A model that is right on all images, and one that gives nothing on some."""
    truth = TrueBoxes(np.asarray([0, 1]), np.asarray([[0, 0, 9, 9.0], [20, 0, 30, 9]]), np.zeros(2, np.bool_))
    whole: Given = (truth.classes, np.asarray([0.9, 0.8]), truth.corners)
    none: Given = (np.zeros(0, np.intp), np.zeros(0), np.zeros((0, 4)))
    answers = [none] * spoilt + [whole] * (images - spoilt)
    return scored([truth] * images, [whole] * images), scored([truth] * images, answers)


def spoilt_masks(images: int, spoilt: int) -> tuple[MaskScores, MaskScores]:
    true = [np.repeat([0, 1], 8)] * images
    answers = [np.full(16, 2)] * spoilt + true[spoilt:]
    return of_masks(true, true), of_masks(true, answers)


@pytest.mark.parametrize(("images", "expected"), [(30, Verdict.UNDECIDED), (400, Verdict.PASS)])
@pytest.mark.parametrize(("make", "cost"), [(spoilt_boxes, 1.0), (spoilt_masks, 2.0)])
def test_sameness_on_few_images_proves_no_more_than_it_does_for_answers(
    make: Callable[[int, int], tuple[Scores, Scores]], cost: float, images: int, expected: Verdict
) -> None:
    """The upper end is that of Clopper and Pearson for no change; a wrong pixel costs two classes."""
    report = judged(make(images, 0), limit=cost)
    first = report.evidence.truth[0]
    assert first.drop_bootstrap95 == (0.0, 0.0)
    upper = 100 * clopper_pearson(0, images, 0.95)[1]
    assert report.drop_ci95 is not None
    assert report.drop_ci95[1] == pytest.approx(cost * upper, rel=0.2)  # of 1,000 draws
    assert report.verdict is expected
    assert (report.images_needed == 0) == (expected is Verdict.PASS)
    if report.images_needed:
        assert 250 <= report.images_needed <= 600  # 369 in all for one point


@pytest.mark.parametrize("make", [spoilt_boxes, spoilt_masks])
def test_a_model_that_lost_much_fails_and_one_that_gained_passes(
    make: Callable[[int, int], tuple[Scores, Scores]],
) -> None:
    good, bad = make(100, 40)
    assert judged((good, bad), 10.0).verdict is Verdict.FAIL
    better = judged((bad, good), 10.0)
    assert better.verdict is Verdict.PASS
    assert better.drop is not None
    assert better.drop < -20


def test_measures_of_boxes_are_both_there_and_the_stricter_decides() -> None:
    report = judged(spoilt_boxes(60, 3), 20.0)
    first, second = report.evidence.truth
    assert (first.measure, second.measure) == (TruthMeasure.MAP, TruthMeasure.MAP_50)
    assert (first.score_float, second.score_float) == (100.0, 100.0)
    assert first.drop == pytest.approx(report.drop)
    assert [each.label for each in first.classes] == ["a", "b"]
    assert first.classes[0].score_quant == pytest.approx(first.score_quant)
    raw = report.to_json()["evidence"]["truth"]
    assert raw[0]["measure"] == "map_50_95"
    assert raw[1]["classes"] == []


def test_images_of_one_scene_count_as_one() -> None:
    pair = spoilt_masks(400, 0)
    assert judged(pair, 2.0).verdict is Verdict.PASS
    scenes = Scenes(np.arange(400) // 10)
    assert judged(pair, 2.0, scenes=scenes).verdict is Verdict.UNDECIDED


def test_more_confidence_asks_for_more() -> None:
    pair = spoilt_masks(400, 0)
    assert judged(pair, 2.0, confidence=0.95).verdict is Verdict.PASS
    assert judged(pair, 2.0, confidence=0.99).verdict is Verdict.UNDECIDED


def test_a_model_that_loses_more_than_is_tolerated_rarely_passes() -> None:
    """One image in eighty is lost wholly, where one in a hundred is tolerated; few images may not show it."""
    rng = np.random.default_rng(5)
    passed = 0
    for _ in range(60):
        spoilt = int(rng.binomial(200, 1 / 80))
        passed += judged(spoilt_masks(200, spoilt), 2.0).verdict is Verdict.PASS
    assert passed <= 4  # 1.5 are expected of 2.5 %


@pytest.mark.parametrize("make", [spoilt_boxes, spoilt_masks])
def test_one_more_image_moves_both_ways(make: Callable[[int, int], tuple[Scores, Scores]]) -> None:
    good, bad = make(50, 5)
    for each in (good, bad):
        plain, right, wrong = (made[0, 0] for made in each.drawn(np.ones((1, 50)), np.asarray([5.0])))
        assert wrong < plain <= right


def test_nothing_to_judge_is_refused() -> None:
    empty = spoilt_boxes(3, 0)[0].at(np.zeros(0, np.intp))
    with pytest.raises(DatasetError, match="no image to judge"):
        judge_truth(agreement(1, Tolerance()), (empty, empty))
