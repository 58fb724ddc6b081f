"""The gate's verdict, its report and what it refuses."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_edge.errors import DatasetError, ModelError
from vit_edge.spec import Tolerance, Verdict
from vit_edge.verify import judge
from vit_edge.verify.arrays import Floats, Integers
from vit_edge.verify.metrics import expected_calibration_error, mean_kl_divergence

KEYS = [
    "n",
    "top1_float",
    "top1_quant",
    "top5_float",
    "top5_quant",
    "drop",
    "drop_ci95",
    "agreement",
    "logit_sqnr_db",
    "verdict",
    "images_needed",
    "worst_classes",
    "evidence",
]
EVIDENCE_KEYS = [
    "tolerance",
    "sequential",
    "disagreement_ci95",
    "mean_kl",
    "only_float_right",
    "only_quant_right",
    "mcnemar_p",
    "significant_classes",
    "ece_float",
    "ece_quant",
    "plan",
    "scenes",
    "expected",
    "mix",
    "contradicted",
]


def one_hot(predictions: Integers, classes: int = 10) -> Floats:
    return np.eye(classes, dtype=np.float32)[predictions]


def outcome(n: int, lost: int, gained: int) -> tuple[Floats, Floats, Integers]:
    """Both models right, except on `lost` images only the quantized and on `gained` only the float one."""
    labels = np.arange(n) % 10
    wrong = (labels + 1) % 10
    index = np.arange(n)
    float_predictions = np.where(index < gained, wrong, labels)
    quant_predictions = np.where((index >= gained) & (index < gained + lost), wrong, labels)
    return one_hot(float_predictions), one_hot(quant_predictions), labels


@pytest.mark.parametrize(
    ("n", "lost", "gained", "max_drop", "verdict"),
    [
        (500, 0, 0, 1.0, Verdict.PASS),
        (100, 0, 0, 1.0, Verdict.UNDECIDED),
        (2300, 16, 8, 1.0, Verdict.PASS),
        (2300, 24, 8, 1.0, Verdict.UNDECIDED),
        (500, 60, 5, 1.0, Verdict.FAIL),
        (500, 5, 60, 1.0, Verdict.PASS),
        (500, 60, 5, 20.0, Verdict.PASS),
    ],
)
def test_the_verdict_on_labelled_images(
    n: int, lost: int, gained: int, max_drop: float, verdict: Verdict
) -> None:
    report = judge(*outcome(n, lost, gained), Tolerance(max_drop))
    assert report.verdict is verdict
    assert report.drop == pytest.approx(100 * (lost - gained) / n)
    assert (report.images_needed == 0) == (verdict is not Verdict.UNDECIDED)
    assert report.evidence.only_float_right == lost
    assert report.evidence.only_quant_right == gained


@pytest.mark.parametrize(
    ("n", "lost", "gained", "verdict"),
    [
        (500, 0, 0, Verdict.PASS),  # at most 0.74 % disagree
        (300, 0, 0, Verdict.UNDECIDED),
        (500, 20, 20, Verdict.FAIL),  # accuracy is equal, but that takes labels to see
        (1000, 5, 5, Verdict.UNDECIDED),
    ],
)
def test_the_verdict_on_unlabelled_images(n: int, lost: int, gained: int, verdict: Verdict) -> None:
    float_logits, quant_logits, _ = outcome(n, lost, gained)
    report = judge(float_logits, quant_logits, None, Tolerance(1.0, max_changed=1.0))
    assert report.verdict is verdict
    assert report.agreement == pytest.approx(100 * (n - lost - gained) / n)
    assert (report.top1_float, report.top5_quant, report.drop, report.drop_ci95) == (None,) * 4
    assert report.worst_classes == ()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 30), st.integers(0, 30), st.sampled_from([1.0, 3.0, 10.0]))
def test_a_pass_without_labels_is_a_pass_with_them(lost: int, gained: int, max_drop: float) -> None:
    float_logits, quant_logits, labels = outcome(600, lost, gained)
    blind = judge(float_logits, quant_logits, None, Tolerance(max_drop, max_changed=max_drop))
    if blind.verdict is Verdict.PASS:
        assert judge(float_logits, quant_logits, labels, Tolerance(max_drop)).verdict is Verdict.PASS


def test_the_verdict_uses_the_confidence_asked_for_and_the_report_shows_95_percent() -> None:
    arrays = outcome(2300, 20, 8)
    lenient, strict = (judge(*arrays, Tolerance(1.0, confidence)) for confidence in (0.90, 0.999))
    assert (lenient.verdict, strict.verdict) == (Verdict.PASS, Verdict.UNDECIDED)
    assert lenient.drop_ci95 == strict.drop_ci95


def test_the_json_has_the_stable_keys_and_survives_a_strict_reader() -> None:
    for labels in (outcome(50, 3, 1)[2], None):
        text = json.dumps(judge(*outcome(50, 3, 1)[:2], labels, Tolerance()).to_json(), allow_nan=False)
        raw = json.loads(text)
        assert list(raw) == KEYS
        assert list(raw["evidence"]) == EVIDENCE_KEYS
        assert raw["evidence"]["tolerance"] == {"max_drop": 1.0, "confidence": 0.95, "max_changed": 3.0}


def test_few_costly_changes_without_labels_are_no_pass() -> None:
    """Twenty of a thousand answers change, each from certainty to certainty: two points, one tolerated."""
    float_logits, quant_logits, _ = outcome(1000, 20, 0)
    report = judge(20 * float_logits, 20 * quant_logits, None, Tolerance(1.0, max_changed=4.0))
    assert report.evidence.expected is not None
    assert report.evidence.expected.verdict is Verdict.FAIL
    assert (report.verdict, report.images_needed, report.plausible) == (Verdict.UNDECIDED, None, False)
    cheap = judge(0.01 * float_logits, 0.01 * quant_logits, None, Tolerance(1.0, max_changed=4.0))
    assert (cheap.verdict, cheap.plausible) == (Verdict.PASS, True)


def test_the_float_models_probabilities_never_overrule_labels() -> None:
    """The float model is sure of everything, and half of what changes changes for the better."""
    float_logits, quant_logits, labels = outcome(2000, 20, 20)
    report = judge(20 * float_logits, 20 * quant_logits, labels, Tolerance(1.0))
    assert report.verdict is judge(float_logits, quant_logits, labels, Tolerance(1.0)).verdict is Verdict.PASS


def test_classes_of_unequal_size_are_a_mix_of_which_the_verdict_speaks() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    quant = np.array([0] * 90 + [0] * 5 + [1] * 5)
    report = judge(one_hot(labels), one_hot(quant), labels, Tolerance())
    mix = report.evidence.mix
    assert mix is not None
    assert (mix.classes, mix.fewest, mix.most, mix.even) == (2, 10, 90, False)
    assert [report.drop, mix.balanced_drop] == pytest.approx([5.0, 25.0])


def test_the_json_is_what_it_would_be_read_back_as() -> None:
    raw = judge(*outcome(300, 40, 1), Tolerance()).to_json()
    assert json.loads(json.dumps(raw)) == raw


def test_the_evidence_holds_what_the_metrics_give() -> None:
    random = np.random.default_rng(5)
    reference = random.normal(size=(200, 10)).astype(np.float32)
    other = reference + random.normal(0, 0.3, (200, 10)).astype(np.float32)
    labels = random.integers(0, 10, 200)
    evidence = judge(reference, other, labels, Tolerance()).evidence
    assert evidence.mean_kl == mean_kl_divergence(reference, other)
    assert evidence.ece_float == expected_calibration_error(reference, labels)
    assert evidence.ece_quant == expected_calibration_error(other, labels)
    blind = judge(reference, other, None, Tolerance()).evidence
    assert blind.mean_kl == evidence.mean_kl
    assert blind.disagreement_ci95 == evidence.disagreement_ci95
    assert (blind.ece_float, blind.ece_quant, blind.mcnemar_p, blind.only_float_right) == (None,) * 4


@pytest.mark.parametrize(
    ("n", "lost", "gained", "verdict"),
    [
        (500, 0, 0, Verdict.PASS),
        (400, 0, 0, Verdict.UNDECIDED),  # a fixed number of images would do with fewer
        (60, 12, 0, Verdict.FAIL),
        (500, 8, 2, Verdict.UNDECIDED),
    ],
)
def test_a_sequential_verdict_allows_for_having_stopped(
    n: int, lost: int, gained: int, verdict: Verdict
) -> None:
    arrays = outcome(n, lost, gained)
    report, fixed = (judge(*arrays, Tolerance(), sequential=each) for each in (True, False))
    assert report.verdict is verdict
    assert report.drop_ci95 is not None
    assert fixed.drop_ci95 is not None
    assert report.drop_ci95[0] < fixed.drop_ci95[0] <= fixed.drop_ci95[1] < report.drop_ci95[1]
    assert report.evidence.disagreement_ci95[1] > fixed.evidence.disagreement_ci95[1]
    # tests for a fixed number of images are left out rather than wrong
    assert (report.evidence.mcnemar_p, report.evidence.significant_classes) == (None, ())
    assert all(each.p_adjusted is None for each in report.worst_classes)


def test_identical_logits_have_an_infinite_ratio_which_json_shows_as_null() -> None:
    report = judge(*outcome(500, 0, 0), Tolerance())
    assert report.logit_sqnr_db == math.inf
    assert report.to_json()["logit_sqnr_db"] is None
    assert report.agreement == 100.0


def test_the_worst_classes_come_first_with_their_names_and_only_where_accuracy_dropped() -> None:
    labels = np.repeat(np.arange(13), 4)
    quant = labels.copy()
    quant[0:3] = 12  # class 0 loses 75 points
    for label in range(1, 12):
        quant[4 * label] = 12  # the next eleven lose 25 each
    names = [f"class {index}" for index in range(13)]
    report = judge(one_hot(labels, 13), one_hot(quant, 13), labels, Tolerance(), names)
    listed = report.to_json()["worst_classes"]
    # three tosses give three heads in one of eight cases, and thirteen classes were looked at
    assert listed[0] == {"label": "class 0", "n": 4, "drop": 75.0, "p_adjusted": 1.0}
    assert [entry["label"] for entry in listed] == names[:10]
    assert all(entry["drop"] > 0 for entry in listed)


def test_a_class_that_improved_is_not_among_the_worst() -> None:
    assert judge(*outcome(50, 0, 5), Tolerance()).worst_classes == ()


def test_top_five_is_left_out_where_five_classes_are_all_there_are() -> None:
    labels = np.arange(5)
    report = judge(one_hot(labels, 5), one_hot(labels, 5), labels, Tolerance())
    assert (report.top1_float, report.top5_float, report.top5_quant) == (100.0, None, None)


def test_top_five_counts_a_label_in_fifth_place() -> None:
    logits = -np.arange(6, dtype=np.float32)[None, :] * np.ones((2, 1), np.float32)
    report = judge(logits, logits, np.array([4, 5]), Tolerance())
    assert (report.top1_float, report.top5_float) == (0.0, 50.0)


@pytest.mark.parametrize(
    ("labels", "names", "error", "message"),
    [
        (np.array([0, 10]), None, DatasetError, "label 10 of image 1 lies outside"),
        (None, ["only one"], ModelError, "10 logits per image but 1 class names"),
        (np.array([0]), None, DatasetError, "2 integers"),
    ],
)
def test_the_gate_refuses(
    labels: Integers | None, names: list[str] | None, error: type[Exception], message: str
) -> None:
    logits = one_hot(np.array([0, 1]))
    with pytest.raises(error, match=message):
        judge(logits, logits, labels, Tolerance(), names)


def test_a_quantized_model_that_yields_nan_is_refused_by_name() -> None:
    logits = one_hot(np.array([0, 1]))
    broken = logits.copy()
    broken[1, 3] = np.nan
    with pytest.raises(ModelError, match="quantized model's logits are NaN or infinite for 1 of 2 images"):
        judge(logits, broken, None, Tolerance())
