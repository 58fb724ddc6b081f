"""Losses per class: named only where they are more than chance, whatever the number of classes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from vit_edge.verify.classes import class_drops, holm
from vit_edge.verify.paired import mcnemar_one_sided


@settings(deadline=None, max_examples=25)
@given(st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.5, 1.0])), min_size=1, max_size=40))
def test_adjusted_p_values_equal_statsmodels(p: list[float]) -> None:
    expected = multipletests(p, method="holm")[1]
    np.testing.assert_allclose(holm(np.array(p)), expected, rtol=1e-12, atol=1e-15)


def test_a_class_is_tested_against_all_classes_that_have_images() -> None:
    labels = np.repeat([0, 1, 2], [20, 20, 20])
    float_right, quant_right = np.ones(60, bool), np.ones(60, bool)
    quant_right[:9] = False  # class 0 loses 9, class 1 loses 2, class 2 none, class 3 has no image
    quant_right[20:22] = False
    first, second = class_drops(float_right, quant_right, labels, list("abcd"), sequential=False)
    p = [mcnemar_one_sided(9, 0), mcnemar_one_sided(2, 0), 1.0]
    expected = multipletests(p, method="holm")[1]
    assert (first.label, first.n, first.drop, first.significant) == ("a", 20, 45.0, True)
    assert (second.label, second.significant) == ("b", False)
    assert [first.p_adjusted, second.p_adjusted] == pytest.approx(expected[:2])


def test_a_loss_that_one_class_alone_would_show_is_chance_among_many() -> None:
    def lost_by_class_0(classes: int) -> bool:
        labels = np.repeat(np.arange(classes), 10)
        quant_right = np.ones(labels.size, bool)
        quant_right[:7] = False
        (drop,) = class_drops(
            np.ones_like(quant_right), quant_right, labels, list(map(str, range(classes))), False
        )
        return drop.significant

    assert lost_by_class_0(2)
    assert not lost_by_class_0(100)


def test_where_nothing_was_lost_at_most_one_run_in_twenty_names_a_class() -> None:
    random = np.random.default_rng(7)
    labels = np.repeat(np.arange(10), 50)
    named = 0
    for _ in range(400):
        kind = random.choice(3, size=500, p=[0.15, 0.15, 0.7])  # gained, lost, neither
        named += any(
            each.significant for each in class_drops(kind != 1, kind != 0, labels, list("abcdefghij"), False)
        )
    assert named <= 400 * 0.05 + 3 * (400 * 0.05 * 0.95) ** 0.5


def test_a_real_loss_of_one_class_is_named() -> None:
    random = np.random.default_rng(8)
    labels = np.repeat(np.arange(10), 50)
    quant_right = np.where(labels == 4, random.random(500) < 0.6, random.random(500) < 0.98)
    significant = [
        each.label
        for each in class_drops(np.ones(500, bool), quant_right, labels, list("abcdefghij"), False)
        if each.significant
    ]
    assert significant == ["e"]


def test_an_open_number_of_images_gives_no_p_value() -> None:
    labels = np.zeros(20, int)
    (drop,) = class_drops(np.ones(20, bool), np.zeros(20, bool), labels, ["a", "b"], sequential=True)
    assert (drop.drop, drop.p_adjusted, drop.significant) == (100.0, None, False)
