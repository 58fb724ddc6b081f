"""Other ways to feed a model, against the stated one."""

import numpy as np
import pytest
from scipy.special import rel_entr, softmax
from scipy.stats import binomtest

from vit_edge.verify.trials import ERROR, adjusted, against, scored


def logits_of(answers: np.ndarray, classes: int = 10, sharpness: float = 8.0) -> np.ndarray:
    return np.asarray(sharpness * np.eye(classes)[answers], np.float32)


def test_a_better_way_has_the_p_value_of_the_exact_test() -> None:
    """Of 60 images 5 are lost and 20 won: binomtest(20, 25, 1/2), one-sided."""
    truth = np.arange(60) % 10
    stated, tried = truth.copy(), truth.copy()
    stated[:20] = (truth[:20] + 1) % 10
    tried[20:25] = (truth[20:25] + 1) % 10
    found = against(scored(logits_of(stated), truth), scored(logits_of(tried), truth))
    assert found.p == pytest.approx(binomtest(20, 25, 0.5, alternative="greater").pvalue, rel=1e-9)
    assert found.stated == pytest.approx(40 / 60)
    assert found.tried == pytest.approx(55 / 60)
    assert found.agreement == pytest.approx(35 / 60)
    assert found.worth_telling


def test_information_is_the_divergence_from_the_mean_answer() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (40, 7)).astype(np.float32)
    p = softmax(logits.astype(np.float64), axis=1)
    expected = rel_entr(p, p.mean(axis=0)).sum(axis=1)
    np.testing.assert_allclose(scored(logits, None).score, expected, rtol=1e-9)


def test_sharper_answers_alone_are_not_worth_telling() -> None:
    """Twice the contrast makes the same answers surer, on every image; labels are needed to say more."""
    logits = np.random.default_rng(0).normal(0, 1, (200, 10)).astype(np.float32)
    found = against(scored(logits, None), scored(3 * logits, None))
    assert found.p < ERROR
    assert found.gain > 0.1
    assert not found.worth_telling


def test_a_model_that_says_one_thing_of_everything_tells_nothing() -> None:
    one = logits_of(np.zeros(50, np.int64))
    assert scored(one, None).score.max() == pytest.approx(0, abs=1e-9)
    varied = scored(logits_of(np.arange(50) % 10), None)
    assert varied.score.mean() / varied.most == pytest.approx(1, abs=0.05)
    assert against(scored(one, None), varied).worth_telling


def test_many_tests_are_adjusted_together() -> None:
    assert adjusted([0.004, 0.5, 0.03]) == pytest.approx([0.012, 0.5, 0.06])
    assert adjusted([]) == []


def test_trials_of_nothing_hardly_ever_find_anything() -> None:
    """300 examinations of 20 equally good ways: at most 1 % may err, and the exact test errs less."""
    rng = np.random.default_rng(0)
    truth = np.zeros(100, np.int64)
    errors = 0
    for _ in range(300):
        stated = scored(logits_of((rng.random(100) > 0.8).astype(np.int64)), truth)
        tried = [scored(logits_of((rng.random(100) > 0.8).astype(np.int64)), truth) for _ in range(20)]
        errors += min(adjusted([against(stated, each).p for each in tried])) <= ERROR
    assert errors <= 8  # binomial of 300 and 1 %: more with a chance below 0.4 %
