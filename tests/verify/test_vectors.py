"""The verdict on embeddings as a gate's report."""

import numpy as np
import pytest

from vit_edge.errors import ModelError
from vit_edge.gate_report import GateReport
from vit_edge.spec import EmbeddingTolerance, OutputKind, Tolerance, Verdict
from vit_edge.verify.arrays import Floats
from vit_edge.verify.judged import Judged, failure, sentences
from vit_edge.verify.kinds import find_changes
from vit_edge.verify.vectors import judge_vectors

COUNT, DIM = 900, 24


def vectors(noise: float, count: int = COUNT) -> tuple[Floats, Floats]:
    """Embeddings of images, and the same with some noise in share of their length."""
    generator = np.random.default_rng(0)
    exact = generator.normal(size=(count, DIM)).astype(np.float32)
    return exact, exact + noise * generator.normal(size=exact.shape).astype(np.float32)


def report(noise: float, count: int = COUNT, **limits: float) -> GateReport:
    allowed = EmbeddingTolerance(**limits)
    return judge_vectors("embedding", *vectors(noise, count), None, Tolerance(), allowed)


def test_vectors_that_hardly_move_pass_by_every_criterion() -> None:
    found = report(0.01)
    assert found.verdict is Verdict.PASS
    assert found.evidence.embeddings is not None
    assert [each.verdict for each in found.evidence.embeddings.criteria] == [Verdict.PASS] * 3
    assert (found.agreement, found.images_needed, found.plausible) == (100.0, 0, True)
    assert found.logit_sqnr_db == pytest.approx(40.0, abs=0.5)
    assert (found.top1_float, found.drop, found.evidence.plan, found.evidence.expected) == (None,) * 4


def test_vectors_that_move_fail_and_it_is_said_by_what() -> None:
    found = report(0.3)
    assert found.verdict is Verdict.FAIL
    assert not found.plausible
    assert found.evidence.embeddings is not None
    cosines = 1.0 / np.sqrt(1.0 + 0.3**2)
    assert found.evidence.embeddings.criteria[0].found == pytest.approx(cosines, abs=0.005)
    told = failure(found)
    assert told.startswith("FAIL: loss of mean cosine 4.")
    assert "tolerated 2 %" in told


def test_the_agreement_counts_images_beyond_the_least_cosine() -> None:
    exact, moved = vectors(0.0)
    moved = moved.copy()
    moved[:9] = -moved[:9]
    found = judge_vectors("embedding", exact, moved, None, Tolerance(), EmbeddingTolerance())
    assert found.agreement == pytest.approx(99.0)
    low, high = found.evidence.disagreement_ci95
    assert low < 1.0 < high
    assert found.limit == 1.0


def test_a_recall_that_alone_is_lost_is_what_the_sentence_speaks_of() -> None:
    found = report(0.1, min_recall=99.0)
    assert found.verdict is Verdict.FAIL
    judged = Judged.of(found)
    assert judged.what == "share of changed nearest neighbours"
    assert judged.limit == pytest.approx(1.0)
    assert judged.ci95[0] <= judged.observed <= judged.ci95[1]
    assert sentences(found).startswith(
        "Refuted at 95 % confidence: a share of changed nearest neighbours of at"
    )


def test_few_images_are_undecided_and_say_how_many_more_would_decide() -> None:
    found = report(0.01, count=60)
    assert found.verdict is Verdict.UNDECIDED
    assert found.plausible
    assert found.images_needed is not None
    assert found.images_needed >= 300
    assert f"about {found.images_needed} more images like these" in failure(found)


def test_a_lower_confidence_is_that_of_the_gate() -> None:
    exact, moved = vectors(0.01, 300)  # too few for the 1 % quantile at 95 %
    strict, lenient = (
        judge_vectors("e", exact, moved, None, Tolerance(confidence=level), EmbeddingTolerance()).verdict
        for level in (0.95, 0.8)
    )
    assert (strict, lenient) == (Verdict.UNDECIDED, Verdict.PASS)


def test_labels_add_what_neighbours_and_a_probe_lose() -> None:
    exact, moved = vectors(0.01)
    labels = (exact[:, 0] > 0).astype(np.int64)
    found = judge_vectors("embedding", exact, moved, labels, Tolerance(), EmbeddingTolerance())
    assert found.evidence.embeddings is not None
    assert len(found.evidence.embeddings.criteria) == 5
    assert found.to_json()["evidence"]["embeddings"]["labelled"] is True


def test_embeddings_have_no_answers_that_could_be_others() -> None:
    assert find_changes(OutputKind.UNIT_EMBEDDING, *vectors(1.0)) == ()


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused(broken: float) -> None:
    exact, moved = vectors(0.01, 100)
    moved[3, 4] = broken
    with pytest.raises(ModelError, match="finite"):
        judge_vectors("embedding", exact, moved, None, Tolerance(), EmbeddingTolerance())
    with pytest.raises(ModelError, match="cannot be compared"):
        judge_vectors("embedding", exact, exact[:, :3], None, Tolerance(), EmbeddingTolerance())
