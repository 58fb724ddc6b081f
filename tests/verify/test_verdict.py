"""From counts to a verdict: plans that decide, and a gate that looks on until it does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_edge.errors import DatasetError, ModelError
from vit_edge.spec import Tolerance, Verdict
from vit_edge.verify import SequentialGate, judge
from vit_edge.verify.arrays import Floats
from vit_edge.verify.paired import PairedCounts
from vit_edge.verify.verdict import (
    FIXED,
    SEQUENTIAL,
    Method,
    verdict_of,
)

COUNTS = st.builds(
    PairedCounts, st.integers(1, 500), st.integers(0, 60), st.integers(0, 60), st.integers(0, 200)
)


def verdict_on(counts: PairedCounts, tolerance: Tolerance, method: Method) -> Verdict:
    lost, gained = counts.only_float_right, counts.only_quant_right
    interval = method.drop_interval(lost, gained, counts.n, tolerance.confidence)
    return verdict_of(interval, tolerance.max_drop)


@settings(deadline=None, max_examples=25)
@given(COUNTS, st.sampled_from([0.3, 1.0, 5.0]))
def test_looking_on_never_decides_before_a_fixed_number_would(counts: PairedCounts, max_drop: float) -> None:
    tolerance = Tolerance(max_drop)
    looking_on = verdict_on(counts, tolerance, SEQUENTIAL)
    assert looking_on in (verdict_on(counts, tolerance, FIXED), Verdict.UNDECIDED)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((-0.01, 0.01), Verdict.PASS),
        ((0.0, 0.0101), Verdict.UNDECIDED),
        ((0.01, 0.02), Verdict.UNDECIDED),
        ((0.0101, 0.02), Verdict.FAIL),
    ],
)
def test_the_verdict_follows_the_interval(interval: tuple[float, float], verdict: Verdict) -> None:
    assert verdict_of(interval, 1.0) is verdict


def outcomes(seed: int, n: int) -> tuple[Floats, Floats, np.ndarray]:
    """Logits of two models that differ here and there, and labels."""
    random = np.random.default_rng(seed)
    reference = random.normal(size=(n, 4)).astype(np.float32)
    other = reference + random.normal(0, 0.3, (n, 4)).astype(np.float32)
    return reference, other, np.where(random.random(n) < 0.8, reference.argmax(axis=1), 0)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 1000), st.integers(1, 150), st.integers(5, 50), st.booleans(), st.sampled_from([1, 10, 40])
)
def test_batch_by_batch_the_gate_says_what_it_says_of_all_images_at_once(
    seed: int, n: int, batch: int, labelled: bool, max_drop: int
) -> None:
    tolerance = Tolerance(max_drop, max_changed=max_drop)
    reference, other, targets = outcomes(seed, n)
    gate = SequentialGate(tolerance)
    for start in range(0, n, batch):
        rows = slice(start, start + batch)
        verdict = gate.add(reference[rows], other[rows], targets[rows] if labelled else None)
        so_far = slice(0, start + batch)
        labels = targets[so_far] if labelled else None
        report = judge(reference[so_far], other[so_far], labels, tolerance, sequential=True)
        assert verdict is report.verdict


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (np.array([0, 4]), DatasetError, "label 4 of image 1 lies outside"),
        (np.array([0]), DatasetError, "2 integers, one per image"),
    ],
)
def test_the_sequential_gate_refuses_labels_that_do_not_fit(
    labels: np.ndarray, error: type[Exception], message: str
) -> None:
    logits = np.eye(4, dtype=np.float32)[:2]
    with pytest.raises(error, match=message):
        SequentialGate(Tolerance()).add(logits, logits, labels)


def test_the_sequential_gate_refuses_logits_that_are_not_finite() -> None:
    logits = np.eye(4, dtype=np.float32)
    with pytest.raises(ModelError, match="quantized model's logits are NaN or infinite"):
        SequentialGate(Tolerance()).add(logits, np.full_like(logits, np.nan), None)
