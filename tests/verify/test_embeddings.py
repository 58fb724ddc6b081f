"""The gate for embeddings: what passes, what fails, what the images cannot show, and what is refused."""

import dataclasses
import json
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_edge import plain
from vit_edge.embedding_report import Criterion, CriterionFigures, EmbeddingReport
from vit_edge.errors import DatasetError, ModelError
from vit_edge.spec import LEAST_COSINE, EmbeddingTolerance, Verdict
from vit_edge.verify import judge_embeddings as judge_outputs
from vit_edge.verify.arrays import Floats, Integers
from vit_edge.verify.bounded import mean_interval
from vit_edge.verify.copies import Scenes
from vit_edge.verify.embeddings import LEAST_GALLERY, split
from vit_edge.verify.fidelity import ComparedOutput

DIM, CLASSES = 24, 4
CLS, PATCHES = "cls_embedding", "patch_features"


def embeddings(count: int, seed: int = 0) -> tuple[Floats, Integers]:
    """Clusters (N, D) that neighbours and a probe tell apart, and their classes."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, count)
    centres = generator.normal(0, 1.2, (CLASSES, DIM))
    return (centres[labels] + generator.normal(0, 1, (count, DIM))).astype(np.float32), labels


def judge_embeddings(
    reference: Mapping[str, Floats],
    other: Mapping[str, Floats],
    labels: Integers | None,
    tolerance: EmbeddingTolerance,
    scenes: Scenes | None = None,
) -> EmbeddingReport:
    """The verdict on arrays, taken in as two batches, as those who run models take them in."""
    outputs = {}
    for name, values in reference.items():
        middle = max(len(values) // 2, 1)
        parts = [
            ComparedOutput.of(values[rows], other[name][rows])
            for rows in (slice(middle), slice(middle, None))
            if len(values[rows])
        ]
        outputs[name] = ComparedOutput.joined(parts)
    return judge_outputs(outputs, labels, tolerance, scenes)


def noisy(values: Floats, share: float, seed: int = 1) -> Floats:
    """With noise of a share of the values' own size."""
    noise = np.random.default_rng(seed).normal(0, float(values.std()), values.shape)
    return (values + share * noise).astype(np.float32)


def by_criterion(report: EmbeddingReport) -> dict[Criterion, CriterionFigures]:
    return {each.criterion: each for each in report.criteria}


def judged(
    count: int, share: float, tolerance: EmbeddingTolerance | None = None, labelled: bool = False
) -> EmbeddingReport:
    values, labels = embeddings(count)
    other = {CLS: noisy(values, share)}
    return judge_embeddings(
        {CLS: values}, other, labels if labelled else None, tolerance or EmbeddingTolerance()
    )


def test_close_embeddings_of_enough_images_pass_and_every_figure_lies_in_its_interval() -> None:
    report = judged(600, 0.005)
    assert report.verdict is Verdict.PASS
    assert report.images_needed == 0
    assert [each.criterion for each in report.criteria] == [
        Criterion.COSINE,
        Criterion.TAIL,
        Criterion.RECALL,
    ]
    for each in report.criteria:
        assert each.found is not None
        assert each.ci95 is not None
        assert each.ci95[0] <= each.found <= each.ci95[1]
    assert (report.n, report.queries, report.gallery) == (600, 300, 300)


@pytest.mark.parametrize(
    ("share", "failing"),
    [(0.15, {Criterion.RECALL}), (0.6, {Criterion.COSINE, Criterion.TAIL, Criterion.RECALL})],
)
def test_noise_fails_what_it_harms(share: float, failing: set[Criterion]) -> None:
    report = judged(600, share)
    assert report.verdict is Verdict.FAIL
    assert {each.criterion for each in report.criteria if each.verdict is Verdict.FAIL} == failing


def test_few_images_decide_nothing_and_say_how_many_would() -> None:
    report = judged(100, 0.005)
    tail = by_criterion(report)[Criterion.TAIL]
    assert report.verdict is Verdict.UNDECIDED
    assert tail.ci95 is not None
    assert tail.ci95[0] == -1.0
    assert tail.images_needed == 268  # 368 in all, if none lies further off
    assert report.images_needed == max(each.images_needed or 0 for each in report.criteria)


def test_a_small_gallery_is_no_search() -> None:
    """Of twelve images an arbitrary one has most of the ten nearest by chance."""
    report = judged(2 * LEAST_GALLERY - 2, 0.005, labelled=True)
    figures = by_criterion(report)
    for criterion in (Criterion.RECALL, Criterion.NEIGHBOURS, Criterion.PROBE):
        assert (figures[criterion].found, figures[criterion].verdict) == (None, Verdict.UNDECIDED)
        assert figures[criterion].images_needed == 2


def test_labels_judge_by_neighbours_and_by_a_probe() -> None:
    values, labels = embeddings(900)
    generator = np.random.default_rng(5)
    broken = np.where(generator.random((900, 1)) < 0.4, generator.normal(0, 2, values.shape), values)
    figures = by_criterion(
        judge_embeddings({CLS: values}, {CLS: broken.astype(np.float32)}, labels, EmbeddingTolerance())
    )
    for criterion in (Criterion.NEIGHBOURS, Criterion.PROBE):
        each = figures[criterion]
        assert each.verdict is Verdict.FAIL
        assert each.accuracy_float is not None
        assert each.accuracy_quant is not None
        assert each.found == pytest.approx(each.accuracy_float - each.accuracy_quant)
        assert each.accuracy_float > 90
    same = by_criterion(judge_embeddings({CLS: values}, {CLS: values}, labels, EmbeddingTolerance()))
    assert same[Criterion.PROBE].found == 0.0
    assert same[Criterion.PROBE].verdict is Verdict.PASS


def test_patches_are_judged_by_image_and_neither_searched_nor_probed() -> None:
    generator = np.random.default_rng(0)
    patches = generator.normal(0, 1, (50, 3, 3, DIM)).astype(np.float32)
    other = patches.copy()
    other[:, 0, 0] = -other[:, 0, 0]  # one patch of nine is turned round in every image
    report = judge_embeddings({PATCHES: patches}, {PATCHES: other}, None, EmbeddingTolerance())
    figures = by_criterion(report)
    assert set(figures) == {Criterion.COSINE, Criterion.TAIL}
    assert report.outputs[PATCHES].cosine == pytest.approx(7 / 9, abs=1e-6)
    assert figures[Criterion.COSINE].found == pytest.approx(LEAST_COSINE)  # as what lies further off counts
    assert figures[Criterion.COSINE].images == 50
    assert report.outputs[PATCHES].least_cosine == pytest.approx(-1, abs=1e-6)
    assert report.verdict is Verdict.FAIL


def test_copies_of_an_image_are_one_piece_of_evidence() -> None:
    values, labels = embeddings(120)
    five = np.repeat(values, 5, axis=0)
    scenes = Scenes(np.repeat(np.arange(120), 5))
    together = judge_embeddings(
        {CLS: five}, {CLS: noisy(five, 0.02)}, np.repeat(labels, 5), EmbeddingTolerance(), scenes
    )
    apart = judge_embeddings(
        {CLS: five}, {CLS: noisy(five, 0.02)}, np.repeat(labels, 5), EmbeddingTolerance()
    )
    assert (together.n, together.scenes, apart.scenes) == (600, 120, 600)
    assert by_criterion(together)[Criterion.TAIL].images == 120
    assert by_criterion(together)[Criterion.TAIL].verdict is Verdict.UNDECIDED
    assert by_criterion(apart)[Criterion.TAIL].verdict is Verdict.PASS
    assert by_criterion(together)[Criterion.PROBE].images == 60


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=2, max_size=40), st.integers(0, 10))
def test_no_scene_stands_on_both_sides(numbers: list[int], count: int) -> None:
    of = np.unique(np.array([*numbers, *range(count)]), return_inverse=True)[1].reshape(-1)
    halves = split(len(of), Scenes(of))
    assert sorted([*halves.gallery, *halves.queries]) == list(range(len(of)))
    assert not set(of[halves.gallery]) & set(of[halves.queries])
    again = split(len(of), Scenes(of))
    np.testing.assert_array_equal(halves.gallery, again.gallery)


def test_one_criterion_may_fail_only_beyond_the_error_of_all_of_them() -> None:
    """Of k criteria each has a k-th of the error of a FAIL; a PASS takes all of them and needs no part."""
    values, _ = embeddings(200)
    wide = EmbeddingTolerance(min_recall=50)
    # 6 of 200 images beyond the limit: refuted at 95 % and not at 98.3 %, the share of three criteria
    other = values.copy()
    other[:6] = np.roll(other[:6], 1, axis=1)
    figures = by_criterion(judge_embeddings({CLS: values}, {CLS: other}, None, wide))
    assert figures[Criterion.TAIL].verdict is Verdict.UNDECIDED
    alone = dataclasses.replace(wide, confidence=0.85)
    figures = by_criterion(judge_embeddings({CLS: values}, {CLS: other}, None, alone))
    assert figures[Criterion.TAIL].verdict is Verdict.FAIL


def test_a_report_goes_through_json_whole() -> None:
    report = judged(100, 0.05, labelled=True)
    raw = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert plain.read(EmbeddingReport, raw, "the report") == report
    assert raw["criteria"][2]["criterion"] == "recall_at_10"
    assert set(raw) == {
        *("n", "scenes", "queries", "gallery", "labelled", "verdict", "images_needed"),
        *("criteria", "outputs", "tolerance"),
    }


@pytest.mark.parametrize(
    ("reference", "other", "message"),
    [
        (np.ones((4, 3)), np.ones((4, 2)), "shapes"),
        (np.ones((0, 3)), np.ones((0, 3)), "shapes"),
        (np.ones((4, 3)), np.full((4, 3), np.nan), "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(reference: Floats, other: Floats, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ComparedOutput.of(reference, other)


def test_an_embedder_that_gives_zeros_alone_is_refused() -> None:
    with pytest.raises(ModelError, match="all zero"):
        judge_embeddings({CLS: np.zeros((4, 3))}, {CLS: np.ones((4, 3))}, None, EmbeddingTolerance())


@pytest.mark.parametrize("labels", [np.zeros(3, np.int64), np.zeros((4, 2), np.bool_)])
def test_labels_that_do_not_fit_are_refused(labels: Integers) -> None:
    same = {CLS: np.ones((4, 3))}
    with pytest.raises(DatasetError, match="do not fit 4 images; give each image one class"):
        judge_embeddings(same, same, labels, EmbeddingTolerance())


def test_some_of_the_images_are_what_they_are_alone() -> None:
    values, _ = embeddings(20)
    rows = np.array([3, 1, 11])
    some = ComparedOutput.of(values, noisy(values, 0.1)).at(rows)
    alone = ComparedOutput.of(values[rows], noisy(values, 0.1)[rows])
    np.testing.assert_array_equal(some.likeness.cosines, alone.likeness.cosines)
    assert some.likeness.fidelity == alone.likeness.fidelity
    assert some.vectors is not None
    np.testing.assert_array_equal(some.vectors[0], values[rows])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_cosine": 1.0}, "min_cosine must lie between"),
        ({"min_cosine": 0.5}, "min_cosine must lie between"),
        ({"min_cosine_tail": float("nan")}, "min_cosine_tail must lie between"),
        ({"min_recall": 0}, "min_recall must lie between"),
        ({"min_recall": 100}, "min_recall must lie between"),
        ({"max_drop": 0}, "max_drop must be above 0"),
        ({"confidence": 0.4}, "confidence must lie between"),
    ],
)
def test_a_tolerance_that_no_gate_could_apply_is_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmbeddingTolerance(**change)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.sampled_from([0.8, 0.95]))
def test_a_mean_of_values_from_0_to_1_has_an_interval_within_them(
    values: list[float], confidence: float
) -> None:
    array = np.array(values)
    low, high = mean_interval(array, confidence, least=0.0)
    assert 0 <= low <= array.mean() <= high <= 1 or low == pytest.approx(array.mean(), abs=1e-12)
    mirrored = mean_interval(1 - array, confidence, least=0.0)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)
    assert mean_interval(array, confidence)[0] <= low + 1e-12  # what may be as low as -1 is known less surely
