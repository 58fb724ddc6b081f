"""The choice of forms: within the budget where that is possible, and no dearer than it has to be."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_edge.host.quantize.choose import LayerOptions, Option, allowed, cheapest, choose_forms, upgrades
from vit_edge.host.quantize.types import Form, Goal

MANY = settings(max_examples=200, deadline=None, derandomize=True)
POSITIVE = st.floats(1e-6, 10.0)


@st.composite
def layers(draw: st.DrawFn) -> list[LayerOptions]:
    def options() -> tuple[Option, ...]:
        forms = draw(st.lists(st.sampled_from(Form), min_size=1, max_size=3, unique=True))
        return tuple(
            Option(form, 0.0 if form is Form.FLOAT else draw(POSITIVE), draw(POSITIVE)) for form in forms
        )

    return [LayerOptions(f"layer.{i}", options()) for i in range(draw(st.integers(1, 8)))]


def noise(taken: dict[str, Option]) -> float:
    return sum(option.noise for option in taken.values())


@MANY
@given(layers(), st.floats(0, 50))
def test_the_budget_is_kept_wherever_it_can_be(found: list[LayerOptions], budget: float) -> None:
    least = sum(min(option.noise for option in layer.options) for layer in found)
    taken = choose_forms(found, budget)
    assert set(taken) == {layer.name for layer in found}
    assert all(taken[layer.name] in layer.options for layer in found)
    assert noise(taken) <= max(budget, least) * (1 + 1e-9)


@MANY
@given(layers(), st.floats(0, 50), st.floats(0, 50))
def test_a_smaller_budget_never_means_more_noise(found: list[LayerOptions], a: float, b: float) -> None:
    assert noise(choose_forms(found, min(a, b))) <= noise(choose_forms(found, max(a, b)))


@MANY
@given(layers())
def test_without_a_limit_every_layer_is_as_fast_as_it_can_be(found: list[LayerOptions]) -> None:
    taken = choose_forms(found, float("inf"))
    assert all(taken[layer.name].cost == min(option.cost for option in layer.options) for layer in found)
    assert all(taken[layer.name] == cheapest(layer) for layer in found)


@MANY
@given(layers(), st.floats(1.0, 3.0))
def test_the_time_that_there_is_is_kept_and_more_of_it_is_no_worse(
    found: list[LayerOptions], share: float
) -> None:
    least = sum(cheapest(layer).cost for layer in found)
    taken = choose_forms(found, 0.0, share * least)
    assert sum(option.cost for option in taken.values()) <= share * least * (1 + 1e-9)
    assert noise(taken) <= noise({layer.name: cheapest(layer) for layer in found}) * (1 + 1e-9)
    assert noise(choose_forms(found, 0.0)) <= noise(taken) * (1 + 1e-9)


def test_of_two_equally_fast_forms_the_better_one_is_taken() -> None:
    better, worse = Option(Form.PER_TOKEN, 0.1, 1.0), Option(Form.STATIC, 0.2, 1.0)
    assert cheapest(LayerOptions("a", (worse, better))) == better


def forms(static: float, row: float, row_cost: float = 2.0, float_cost: float = 4.0) -> tuple[Option, ...]:
    return (
        Option(Form.STATIC, static, 1.0),
        Option(Form.PER_TOKEN, row, row_cost),
        Option(Form.FLOAT, 0.0, float_cost),
    )


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (2.0, (Form.STATIC, Form.STATIC)),  # 1.0 + 0.5
        (1.5, (Form.STATIC, Form.STATIC)),  # the budget itself is allowed
        (0.7, (Form.PER_TOKEN, Form.STATIC)),  # 0.9 noise per ms in the first, 0.3 in the second
        (0.4, (Form.PER_TOKEN, Form.PER_TOKEN)),
        (0.25, (Form.FLOAT, Form.PER_TOKEN)),  # 0.05 per ms in the first, 0.025 in the second
        (0.0, (Form.FLOAT, Form.FLOAT)),
    ],
)
def test_the_upgrade_that_removes_most_noise_per_millisecond_goes_first(
    budget: float, expected: tuple[Form, Form]
) -> None:
    found = [LayerOptions("a", forms(1.0, 0.1)), LayerOptions("b", forms(0.5, 0.2, float_cost=10.0))]
    taken = choose_forms(found, budget)
    assert (taken["a"].form, taken["b"].form) == expected


def test_a_budget_out_of_reach_gives_the_least_noise_there_is() -> None:
    found = [LayerOptions("a", forms(1.0, 0.1)[:2]), LayerOptions("b", forms(0.5, 0.2)[:1])]
    taken = choose_forms(found, 0.01)
    assert (taken["a"].form, taken["b"].form) == (Form.PER_TOKEN, Form.STATIC)


def test_a_form_that_is_slower_and_worse_is_never_taken() -> None:
    found = [LayerOptions("a", (Option(Form.STATIC, 0.1, 1.0), Option(Form.PER_TOKEN, 0.3, 2.0)))]
    assert choose_forms(found, 0.0)["a"].form is Form.STATIC


@pytest.mark.parametrize(
    ("goal", "weights", "expected"),
    [
        (Goal(10.0), True, {Form.STATIC, Form.PER_TOKEN}),  # 0.1 is allowed, a row range alone does 0.01
        (Goal(10.0), False, {Form.STATIC, Form.PER_TOKEN, Form.FLOAT}),  # float takes no more space
        (Goal(10.0, float_layers=True), True, {Form.STATIC, Form.PER_TOKEN, Form.FLOAT}),
        (Goal(30.0), True, {Form.STATIC, Form.PER_TOKEN, Form.FLOAT}),  # out of reach of either integer form
        (Goal(10.0, per_token=False), True, {Form.STATIC, Form.FLOAT}),  # 0.2 is too much
        (Goal(5.0, per_token=False), True, {Form.STATIC}),
    ],
)
def test_a_goal_says_which_forms_may_be_chosen(goal: Goal, weights: bool, expected: set[Form]) -> None:
    (layer,) = allowed([LayerOptions("a", forms(0.2, 0.01), weights)], goal)
    assert {option.form for option in layer.options} == expected


def test_upgrades_are_what_costs_more_than_the_cheapest_form_the_most_worthy_first() -> None:
    found = [
        LayerOptions(name, forms(noise, noise / 10)) for name, noise in (("a", 0.1), ("b", 0.5), ("c", 0.2))
    ]
    taken = choose_forms(found, 0.2)  # 0.05 + 0.02 + 0.1: the upgrades of b and c are needed
    made = upgrades(found, taken)
    assert [upgrade.name for upgrade in made] == ["b", "c"]
    assert made[0].worth == pytest.approx((0.5 - 0.05) / (2.0 - 1.0))
    assert sum(upgrade.added for upgrade in made) == pytest.approx(
        sum(option.cost for option in taken.values()) - 3.0
    )
    assert upgrades(found, choose_forms(found, 1.0)) == []


@MANY
@given(layers(), st.floats(0, 50))
def test_without_its_upgrades_every_layer_is_in_its_cheapest_form(
    found: list[LayerOptions], budget: float
) -> None:
    taken = choose_forms(found, budget)
    upgraded = {upgrade.name for upgrade in upgrades(found, taken)}
    assert all((taken[layer.name] == cheapest(layer)) == (layer.name not in upgraded) for layer in found)
