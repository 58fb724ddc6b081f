"""Orders of labels that images may show."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_edge.verify.orders import candidates, fitted_order


@given(st.permutations(list(range(8))), st.integers(0, 2**32 - 1))
def test_the_order_is_found_where_every_class_is_seen(order: list[int], seed: int) -> None:
    answers = np.concatenate([np.arange(8), np.random.default_rng(seed).integers(0, 8, 40)])
    assert fitted_order(answers, np.asarray(order)[answers], 8) == tuple(order)


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=60))
def test_an_order_is_always_a_permutation(pairs: list[tuple[int, int]]) -> None:
    answers, truth = np.asarray(pairs, np.int64).reshape(-1, 2).T
    assert sorted(fitted_order(answers, truth, 20)) == list(range(20))


def test_a_class_that_is_not_seen_stays_where_it_is() -> None:
    assert fitted_order(np.array([0, 0, 1]), np.array([1, 1, 0]), 4) == (1, 0, 2, 3)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("reversed", (11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)),
        ("shifted down by one", (11, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)),
        ("sorted by index as text", (0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9)),
        ("sorted by name", (1, 0, *range(2, 12))),
    ],
)
def test_the_orders_that_tools_mix_up_are_tried(name: str, order: tuple[int, ...]) -> None:
    labels = ["b", "a", *"cdefghijkl"]
    answers = np.arange(12)
    tried = {each.name: each for each in candidates(labels, answers, answers, 12)}
    assert tried[name].order == order
    assert tried[name].rows.all()


def test_an_order_that_was_found_on_images_is_tested_on_others() -> None:
    answers = np.arange(40) % 10
    tried = {each.name: each for each in candidates(None, answers, (answers * 3) % 10, 10)}
    assert tried["as the images say"].rows.tolist() == [False, True] * 20
    assert "sorted by name" not in tried


def test_no_order_is_tried_that_changes_nothing() -> None:
    answers = np.arange(12)
    assert all(each.order != tuple(range(12)) for each in candidates(None, answers, answers, 12))
