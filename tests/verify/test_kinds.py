"""Several labels at once and values: measures against their definitions, verdicts against counted cases."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_edge.errors import DatasetError, ModelError
from vit_edge.spec import OutputKind, Tolerance, Verdict
from vit_edge.verify import find_changes, judge, judge_kind
from vit_edge.verify.answers import as_logits
from vit_edge.verify.bounded import mean_interval
from vit_edge.verify.multi_label import f1_macro, f1_micro

LOOSE = Tolerance(max_drop=5.0, max_changed=5.0)


def labelled(images: int, wrong: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of a perfect model, of one that misses a label on the first images, and the truth."""
    truth = np.random.default_rng(seed).random((images, 4)) < 0.4
    perfect = np.where(truth, 3.0, -3.0).astype(np.float32)
    other = perfect.copy()
    other[:wrong, 2] *= -1
    return perfect, other, truth


def test_f1_is_that_of_its_definition() -> None:
    truth = np.array([[1, 0, 1], [1, 1, 0], [0, 0, 0]], np.bool_)
    found = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 1]], np.bool_)
    # per label (TP, FP, FN): (2, 1, 0), (0, 0, 1), (0, 1, 1)
    assert f1_macro(found, truth) == pytest.approx((4 / 5 + 0 + 0) / 3)
    assert f1_micro(found, truth) == pytest.approx(2 * 2 / (2 * 2 + 2 + 2))
    assert f1_micro(np.zeros((2, 2), np.bool_), np.zeros((2, 2), np.bool_)) == 0.0


@pytest.mark.parametrize(
    ("wrong", "verdict"), [(0, Verdict.PASS), (2, Verdict.PASS), (100, Verdict.FAIL), (20, Verdict.UNDECIDED)]
)
def test_the_verdict_on_labels_is_that_of_exact_matches(wrong: int, verdict: Verdict) -> None:
    perfect, other, truth = labelled(400, wrong)
    report = judge_kind(OutputKind.MULTI_LABEL, perfect, other, truth, LOOSE)
    assert report.verdict is verdict
    assert report.drop == pytest.approx(100 * wrong / 400)
    assert report.top1_float is None
    found = report.evidence.labels
    assert found is not None
    assert (found.exact_float, found.exact_quant) == pytest.approx((100, 100 - 100 * wrong / 400))
    assert found.accuracy_quant == pytest.approx(100 - 100 * wrong / 1600)
    assert found.accuracy_drop_ci95[0] <= 100 * wrong / 1600 <= found.accuracy_drop_ci95[1]
    if wrong:
        assert report.worst_classes[0].label == "2"
        assert report.worst_classes[0].drop == pytest.approx(100 * wrong / 400)
    raw = report.to_json()
    assert raw["evidence"]["labels"]["exact_float"] == 100.0
    assert "values" not in raw["evidence"]


@pytest.mark.parametrize(
    ("changed", "verdict"), [(0, Verdict.PASS), (100, Verdict.FAIL), (20, Verdict.UNDECIDED)]
)
def test_without_labels_changed_sets_are_counted(changed: int, verdict: Verdict) -> None:
    perfect, other, _ = labelled(400, changed)
    report = judge_kind(OutputKind.MULTI_LABEL, perfect, other, None, LOOSE)
    assert report.verdict is verdict
    assert report.agreement == pytest.approx(100 - 100 * changed / 400)
    changes = find_changes(OutputKind.MULTI_LABEL, perfect, other)
    assert [each.row for each in changes] == list(range(changed))


def test_the_divergence_of_labels_is_the_sum_of_bernoulli_divergences() -> None:
    a, b = np.array([[0.3, -1.2]], np.float32), np.array([[0.1, -0.4]], np.float32)
    p, q = 1 / (1 + np.exp(-a.astype(float))), 1 / (1 + np.exp(-b.astype(float)))
    expected = float((p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum())
    report = judge_kind(OutputKind.MULTI_LABEL, a, b, None, LOOSE)
    assert report.evidence.mean_kl == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0.0, Verdict.PASS), (0.01, Verdict.PASS), (0.2, Verdict.FAIL)]
)
@pytest.mark.parametrize("known", [False, True])
def test_values_are_judged_by_their_share_of_the_range(shift: float, verdict: Verdict, known: bool) -> None:
    truth = np.linspace(-20.0, 20.0, 500)[:, None]
    report = judge_kind(OutputKind.REGRESSION, truth, truth + shift * 40, truth if known else None, LOOSE)
    assert report.verdict is verdict
    assert report.lost == pytest.approx(100 * shift)
    found = report.evidence.values
    assert found is not None
    assert found.mean_change == pytest.approx(40 * shift)
    assert (found.error_quant is None) is not known
    assert report.evidence.mean_kl is None
    assert find_changes(OutputKind.REGRESSION, truth, truth + shift) == ()


def test_an_undecided_change_says_how_many_images_would_decide() -> None:
    values = np.linspace(0.0, 1.0, 40)[:, None]
    report = judge_kind(OutputKind.REGRESSION, values, values + 0.02, None, LOOSE)
    assert report.verdict is Verdict.UNDECIDED
    assert report.images_needed is not None
    more = np.tile(values, (1 + math.ceil(report.images_needed / 40), 1))
    assert judge_kind(OutputKind.REGRESSION, more, more + 0.02, None, LOOSE).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("values", "truth", "message"),
    [
        (np.ones((5, 1)), None, "no range"),
        (np.arange(5.0)[:, None], np.zeros((5, 2)), "2 true values"),
        (np.empty((0, 1)), None, "at least one image"),
    ],
)
def test_values_that_nothing_can_be_said_of_are_refused(
    values: np.ndarray, truth: np.ndarray | None, message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        judge_kind(OutputKind.REGRESSION, values, values, truth, LOOSE)


def test_values_that_are_not_finite_are_refused() -> None:
    values = np.arange(5.0)[:, None]
    with pytest.raises(ModelError, match="not finite"):
        judge_kind(OutputKind.REGRESSION, values, values * np.nan, None, LOOSE)
    with pytest.raises(DatasetError, match="do not fit"):
        judge_kind(OutputKind.MULTI_LABEL, *labelled(6, 1)[:2], np.zeros((6, 3), np.bool_), LOOSE)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60), st.floats(0.6, 0.99))
def test_an_interval_for_a_mean_holds_it_and_grows_with_confidence(
    values: list[float], confidence: float
) -> None:
    array = np.array(values)
    low, high = mean_interval(array, confidence)
    assert -1.0 <= low <= array.mean() + 1e-9
    assert array.mean() - 1e-9 <= high <= 1.0
    wider = mean_interval(array, confidence + 0.005)
    assert wider[0] <= low + 1e-9
    assert wider[1] >= high - 1e-9


def test_the_interval_misses_a_known_mean_as_seldom_as_it_claims() -> None:
    generator = np.random.default_rng(0)
    missed = 0
    for _ in range(200):
        values = generator.beta(0.5, 4.0, 60)
        low, high = mean_interval(values, 0.9)
        missed += not low <= 0.5 / 4.5 <= high
    assert missed <= 20 + 3 * math.sqrt(200 * 0.1 * 0.9)


def test_logits_are_got_back_from_probabilities() -> None:
    logits = np.random.default_rng(1).normal(0, 3, (50, 4)).astype(np.float32)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    back = as_logits(OutputKind.SINGLE_LABEL_PROBABILITIES, softmax)
    assert back - back.mean(axis=1, keepdims=True) == pytest.approx(
        logits - logits.mean(axis=1, keepdims=True), abs=1e-4
    )
    sigmoid = 1 / (1 + np.exp(-logits))
    assert as_logits(OutputKind.MULTI_LABEL_PROBABILITIES, sigmoid) == pytest.approx(logits, abs=1e-3)
    assert np.isfinite(as_logits(OutputKind.MULTI_LABEL_PROBABILITIES, np.array([[0.0, 1.0]]))).all()
    assert np.isfinite(as_logits(OutputKind.SINGLE_LABEL_PROBABILITIES, np.array([[0.0, 1.0]]))).all()


def test_one_logit_is_judged_as_two_classes_are() -> None:
    generator = np.random.default_rng(2)
    one = generator.normal(0, 2, (300, 1)).astype(np.float32)
    other = one + generator.normal(0, 0.1, one.shape).astype(np.float32)
    labels = (one[:, 0] + generator.normal(0, 1, 300) > 0).astype(np.int64)
    of_one, of_other = (as_logits(OutputKind.BINARY, each) for each in (one, other))
    report = judge_kind(OutputKind.BINARY, of_one, of_other, labels, LOOSE)
    assert dataclasses.asdict(report) == dataclasses.asdict(judge(of_one, of_other, labels, LOOSE))
    assert report.top1_float == pytest.approx(100 * float(((one[:, 0] > 0) == labels).mean()))
