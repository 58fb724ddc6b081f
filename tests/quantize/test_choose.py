"""The choice of forms: within the budget where that is possible, and no dearer than it has to be."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_edge.host.quantize.choose import Choice, Option, cheapest, choose
from vit_edge.host.quantize.types import Form

MANY = settings(max_examples=200, deadline=None, derandomize=True)
POSITIVE = st.floats(1e-6, 10.0)


@st.composite
def layers(draw: st.DrawFn) -> list[Choice]:
    def options() -> tuple[Option, ...]:
        forms = draw(st.lists(st.sampled_from(Form), min_size=1, max_size=3, unique=True))
        return tuple(
            Option(form, 0.0 if form is Form.FLOAT else draw(POSITIVE), draw(POSITIVE)) for form in forms
        )

    return [Choice(f"layer.{i}", options()) for i in range(draw(st.integers(1, 8)))]


def damage(taken: dict[str, Option]) -> float:
    return sum(option.damage for option in taken.values())


@MANY
@given(layers(), st.floats(0, 50))
def test_the_budget_is_kept_wherever_it_can_be(found: list[Choice], budget: float) -> None:
    least = sum(min(option.damage for option in layer.options) for layer in found)
    taken = choose(found, budget)
    assert set(taken) == {layer.name for layer in found}
    assert all(taken[layer.name] in layer.options for layer in found)
    assert damage(taken) <= max(budget, least) * (1 + 1e-9)


@MANY
@given(layers(), st.floats(0, 50), st.floats(0, 50))
def test_a_smaller_budget_never_means_more_damage(found: list[Choice], a: float, b: float) -> None:
    assert damage(choose(found, min(a, b))) <= damage(choose(found, max(a, b)))


@MANY
@given(layers())
def test_without_a_limit_every_layer_is_as_fast_as_it_can_be(found: list[Choice]) -> None:
    taken = choose(found, float("inf"))
    assert all(taken[layer.name].cost == min(option.cost for option in layer.options) for layer in found)
    assert all(taken[layer.name] == cheapest(layer) for layer in found)


def test_of_two_equally_fast_forms_the_better_one_is_taken() -> None:
    better, worse = Option(Form.ROW, 0.1, 1.0), Option(Form.STATIC, 0.2, 1.0)
    assert cheapest(Choice("a", (worse, better))) == better


def forms(static: float, row: float, row_cost: float = 2.0, float_cost: float = 4.0) -> tuple[Option, ...]:
    return (
        Option(Form.STATIC, static, 1.0),
        Option(Form.ROW, row, row_cost),
        Option(Form.FLOAT, 0.0, float_cost),
    )


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (2.0, (Form.STATIC, Form.STATIC)),  # 1.0 + 0.5
        (1.5, (Form.STATIC, Form.STATIC)),  # the budget itself is allowed
        (0.7, (Form.ROW, Form.STATIC)),  # 0.9 damage per ms in the first, 0.3 in the second
        (0.4, (Form.ROW, Form.ROW)),
        (0.25, (Form.FLOAT, Form.ROW)),  # 0.05 per ms in the first, 0.025 in the second
        (0.0, (Form.FLOAT, Form.FLOAT)),
    ],
)
def test_the_upgrade_that_removes_most_damage_per_millisecond_goes_first(
    budget: float, expected: tuple[Form, Form]
) -> None:
    found = [Choice("a", forms(1.0, 0.1)), Choice("b", forms(0.5, 0.2, float_cost=10.0))]
    taken = choose(found, budget)
    assert (taken["a"].form, taken["b"].form) == expected


def test_a_budget_out_of_reach_gives_the_least_damage_there_is() -> None:
    found = [Choice("a", forms(1.0, 0.1)[:2]), Choice("b", forms(0.5, 0.2)[:1])]
    taken = choose(found, 0.01)
    assert (taken["a"].form, taken["b"].form) == (Form.ROW, Form.STATIC)


def test_a_form_that_is_slower_and_worse_is_never_taken() -> None:
    found = [Choice("a", (Option(Form.STATIC, 0.1, 1.0), Option(Form.ROW, 0.3, 2.0)))]
    assert choose(found, 0.0)["a"].form is Form.STATIC
