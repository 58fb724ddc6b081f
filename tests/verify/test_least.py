"""The least number of images is the one at which the gate itself begins to pass what loses nothing."""

import dataclasses

import numpy as np
import pytest

from vit_edge.spec import EmbeddingTolerance, OutputKind, Tolerance, Verdict
from vit_edge.verify import judge_kind
from vit_edge.verify.embeddings import judge_embeddings
from vit_edge.verify.fidelity import ComparedOutput, likeness
from vit_edge.verify.least import Known, least_images, least_of_embeddings
from vit_edge.verify.values import judge_values

SINGLE, MULTI, VALUES = OutputKind.SINGLE_LABEL, OutputKind.MULTI_LABEL, OutputKind.REGRESSION


def logits(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("known", "tolerance", "least"),
    [
        (Known.NOTHING, Tolerance(), 122),
        (Known.NOTHING, Tolerance(max_changed=1.0), 368),
        (Known.NOTHING, Tolerance(confidence=0.99), 174),
        (Known.LABELS, Tolerance(), None),
        (Known.LABELS, Tolerance(max_drop=5.0), None),
    ],
)
@pytest.mark.parametrize("kind", [SINGLE, MULTI])
def test_the_gate_passes_with_so_many_and_not_with_one_less(
    kind: OutputKind, known: Known, tolerance: Tolerance, least: int | None
) -> None:
    found = least_images(kind, known, tolerance)
    assert found is not None
    assert found == (least or found)
    for count, verdict in ((found, Verdict.PASS), (found - 1, Verdict.UNDECIDED)):
        given = logits(count)
        right = given.argmax(axis=1) if kind is SINGLE else given > 0
        # sure answers, so that the float model's own probabilities speak of no loss
        truth = right if known is Known.LABELS else None
        assert judge_kind(kind, 40 * given, 40 * given, truth, tolerance).verdict is verdict


@pytest.mark.parametrize("known", [Known.NOTHING, Known.LABELS])
def test_of_values_by_the_interval_of_their_mean(known: Known) -> None:
    found = least_images(VALUES, known, Tolerance())
    assert found is not None
    for count, verdict in ((found, Verdict.PASS), (found - 1, Verdict.UNDECIDED)):
        given = logits(count)
        truth = given + 0.1 if known is Known.LABELS else None
        assert judge_values(given, given, truth, Tolerance(), None).verdict is verdict


def test_maps_are_judged_by_shares_as_labels_are_not() -> None:
    assert least_images(OutputKind.MAP, Known.NOTHING, Tolerance()) == 122


@pytest.mark.parametrize(("known", "least"), [(Known.BOXES, 368), (Known.MASKS, 736)])
def test_truth_of_places_takes_what_one_unseen_image_may_weigh(known: Known, least: int) -> None:
    """By 200,000 draws of exponential weights, whose quantile is known to half a percent."""
    found = least_images(OutputKind.MAP, known, Tolerance())
    assert found is not None
    assert abs(found - least) <= 2
    drawn = np.random.default_rng(0).exponential(size=(20_000, found + 1)).astype(np.float32)
    unseen = (drawn[:, 0] / drawn.sum(axis=1)) * (2.0 if known is Known.MASKS else 1.0)
    assert np.quantile(unseen, 0.975) == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("changes", [{}, {"min_cosine_tail": 0.9, "confidence": 0.9}, {"min_recall": 99.0}])
def test_of_embeddings_by_the_criterion_that_takes_most(grouped: bool, changes: dict[str, float]) -> None:
    tolerance = dataclasses.replace(EmbeddingTolerance(), **changes)
    found = least_of_embeddings(tolerance, grouped=grouped)
    assert found is not None
    for count, verdict in ((found + found % 2, Verdict.PASS), (found - 2, Verdict.UNDECIDED)):
        values = np.random.default_rng(0).normal(size=(count, 8)).astype(np.float32)
        same = {"embedding": ComparedOutput(likeness(values, values), (values, values))}
        labels = np.arange(count) % 4 if grouped else None
        assert judge_embeddings(same, labels, tolerance).verdict is verdict


@pytest.mark.parametrize("tolerance", [Tolerance(max_changed=0.0001), Tolerance(max_changed=0.0003)])
def test_a_tolerance_that_a_million_images_cannot_show_has_no_number(tolerance: Tolerance) -> None:
    assert least_images(SINGLE, Known.NOTHING, tolerance) is None
