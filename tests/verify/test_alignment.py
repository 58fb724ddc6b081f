"""Classes in another order are told from damage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_edge.verify import find_renumbering
from vit_edge.verify.arrays import Floats


def logits_of(seed: int, n: int, classes: int) -> Floats:
    """Each image is of one class, and its logits say so; classes come in similar pairs."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1, (n, classes))
    own = random.integers(0, classes, n)
    logits[np.arange(n), own] += 6
    logits[np.arange(n), own ^ 1 if classes % 2 == 0 else own] += 3
    return logits.astype(np.float32)


def with_noise(logits: Floats, scale: float, seed: int = 5) -> Floats:
    return logits + np.random.default_rng(seed).normal(0, scale, logits.shape).astype(np.float32)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(40, 4), (60, 10), (400, 40)]), st.floats(0, 0.3))
def test_permuted_classes_are_found_with_a_pair_that_really_is_one(
    seed: int, sizes: tuple[int, int], noise: float
) -> None:
    n, classes = sizes
    reference = logits_of(seed, n, classes)
    order = np.roll(np.arange(classes), 1)
    found = find_renumbering(reference, with_noise(reference, noise)[:, order])
    assert found is not None
    assert order[found.quant_class] == found.float_class
    assert found.images == n // 2
    assert found.differing_after <= found.differing / 5


def test_two_exchanged_classes_of_ten_are_found() -> None:
    reference = logits_of(3, 200, 10)
    order = np.array([0, 1, 2, 7, 4, 5, 6, 3, 8, 9])
    found = find_renumbering(reference, with_noise(reference, 0.2)[:, order])
    assert found is not None
    assert {found.float_class, found.quant_class} == {3, 7}


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 1.0, 3.0, 10.0]), st.sampled_from([32, 200]))
def test_damage_is_not_taken_for_another_order(seed: int, noise: float, n: int) -> None:
    reference = logits_of(seed, n, 10)
    assert find_renumbering(reference, with_noise(reference, noise, seed)) is None


@pytest.mark.parametrize(
    "damage",
    [
        np.zeros_like,
        lambda logits: -logits,
        lambda logits: logits[::-1],  # other images
        lambda logits: logits[:, [0] * 10],  # every class says the same
        lambda logits: logits + np.arange(10, dtype=np.float32) * 20,  # one class always wins
        lambda logits: np.where(np.arange(10) == 4, 50, logits).astype(np.float32),
    ],
    ids=["nothing", "opposite", "other images", "one column", "offset", "stuck class"],
)
def test_a_broken_model_is_not_taken_for_one_of_another_order(damage: object) -> None:
    assert callable(damage)
    reference = logits_of(4, 300, 10)
    assert find_renumbering(reference, damage(reference)) is None


def test_a_few_images_confirm_nothing() -> None:
    reference = logits_of(6, 8, 10)
    assert find_renumbering(reference, reference[:, ::-1]) is None


def test_more_classes_than_are_correlated_at_once_are_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = logits_of(7, 400, 40)
    order = np.random.default_rng(8).permutation(40)
    whole = find_renumbering(reference, reference[:, order])
    monkeypatch.setattr("vit_edge.verify.alignment._CLASSES_AT_ONCE", 7)
    assert find_renumbering(reference, reference[:, order]) == whole is not None
