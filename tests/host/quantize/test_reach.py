"""How a search comes to a goal: by what the whole model does, each choice measured once."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from vit_edge.host.quantize.choose import LayerOptions, Option
from vit_edge.host.quantize.search import CORRECTIONS, LOOSER, Search
from vit_edge.host.quantize.types import Form, Goal
from vit_edge.progress import Step, silent

LAYERS = tuple(
    LayerOptions(
        f"layer.{i}",
        (Option(Form.STATIC, 0.001 * (1 + i), 1.0), Option(Form.PER_TOKEN, 0.0001 * (1 + i), 1.5)),
        weights=True,
    )
    for i in range(10)
)
STATIC, ROWS = (sum(layer.options[i].noise for layer in LAYERS) for i in (0, 1))
Whole = Callable[[float], float]  # from the layers' noises together to what the whole model does


class Known(Search):
    """A search that has measured its layers, and whose whole model is a formula."""

    def __init__(self, whole: Whole) -> None:
        self.whole = whole
        self.tried: list[Mapping[str, Form]] = []

    @property
    def layers(self) -> tuple[LayerOptions, ...]:
        return LAYERS

    def step(self, what: str) -> Step:
        return silent(what)

    def noise(self, forms: Mapping[str, Form]) -> float:
        self.tried.append(forms)
        return self.whole(noise_of(forms))

    def decided(self, _layers: Sequence[LayerOptions], taken: Mapping[str, Option], _goal: Goal) -> Any:
        return {name: option.form for name, option in taken.items()}


def noise_of(forms: Mapping[str, Form]) -> float:
    return sum(
        option.noise for layer in LAYERS for option in layer.options if option.form is forms[layer.name]
    )


def goal(noise: float) -> Goal:
    return Goal(-10 * math.log10(noise))


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.02, 1.3, 2.0])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_a_goal_that_can_be_reached_is(factor: float, share: float) -> None:
    """Also where the whole model does somewhat more than its layers together, by however little."""
    search = Known(lambda noise: factor * noise)
    wanted = goal(share * STATIC)
    found: Any = search.reach(wanted)
    assert factor * noise_of(found) <= wanted.noise * (1 + 1e-9)
    assert len(search.tried) <= CORRECTIONS


def test_the_same_choice_is_not_measured_twice() -> None:
    """It goes on until a smaller budget chooses something else."""
    search = Known(lambda noise: 1.001 * noise + 1e-4)
    search.reach(goal(0.5 * STATIC))
    tried = [tuple(sorted(forms.items())) for forms in search.tried]
    assert len(tried) == len(set(tried))


def test_a_goal_out_of_reach_takes_the_least_noise_that_was_measured() -> None:
    search = Known(lambda noise: 1.0 + noise)
    found: Any = search.reach(goal(0.5 * STATIC))
    assert found == min(search.tried, key=noise_of)
    assert len(search.tried) <= CORRECTIONS + len(LOOSER)


def test_where_nothing_is_left_to_upgrade_it_ends() -> None:
    search = Known(lambda noise: noise)
    found: Any = search.reach(goal(0.1 * ROWS))
    assert set(found.values()) == {Form.PER_TOKEN}  # there is no other form
    assert len(search.tried) <= 1 + len(LOOSER)
