"""Which form each layer gets: a small knapsack of measured noise against measured cost.

Every layer starts in its cheapest form. The upgrade (to a row range, to float) that removes most noise per
millisecond is taken until the predicted noise of all layers together is within the preset's budget. Noises
are noise powers of the logits and add up; that they do is checked on the finished model, not assumed.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from vit_edge.host.quantize.types import Form, Goal


@dataclasses.dataclass(frozen=True)
class Option:
    """One form of a layer."""

    form: Form
    noise: float  # noise power over signal power of the logits, with this layer alone in this form
    cost: float  # milliseconds


@dataclasses.dataclass(frozen=True)
class LayerOptions:
    """A layer and the forms it may take."""

    name: str
    options: tuple[Option, ...]
    weights: bool = False  # holds weights, which take four times the space where it is float


@dataclasses.dataclass(frozen=True)
class Upgrade:
    """A layer that is not in its cheapest form."""

    name: str
    added: float  # milliseconds against the cheapest form
    worth: float  # noise removed per millisecond


def allowed(layers: Sequence[LayerOptions], goal: Goal) -> list[LayerOptions]:
    """The layers with only the options that a goal allows.

    A layer with weights may be float where the goal says so, or where each other form of it alone does more
    noise than all layers together may.
    """
    return [dataclasses.replace(layer, options=_allowed(layer, goal)) for layer in layers]


def _allowed(layer: LayerOptions, goal: Goal) -> tuple[Option, ...]:
    others = [option for option in layer.options if option.form is not Form.FLOAT]
    others = [option for option in others if goal.per_token or option.form is not Form.PER_TOKEN]
    hopeless = all(option.noise > goal.noise for option in others)
    floats_allowed = hopeless or goal.float_layers or not layer.weights
    floats = [option for option in layer.options if option.form is Form.FLOAT]
    return (*others, *(floats if floats_allowed else ()))


def choose_forms(layers: Sequence[LayerOptions], budget: float, most: float = math.inf) -> dict[str, Option]:
    """The option of each layer; total noise at most `budget` where the options and the time allow it.

    Args:
        layers: each with at least one option.
        budget: noise power over signal power of the logits.
        most: milliseconds of all layers together.
    """
    taken = {layer.name: cheapest(layer) for layer in layers}
    while sum(option.noise for option in taken.values()) > budget:
        left = most - sum(option.cost for option in taken.values())
        upgrades = [
            (_worth(taken[layer.name], option), layer.name, option)
            for layer in layers
            for option in layer.options
            if option.noise < taken[layer.name].noise and option.cost - taken[layer.name].cost <= left
        ]
        if not upgrades:
            break
        _, name, option = max(upgrades, key=lambda upgrade: upgrade[0])
        taken[name] = option
    return taken


def upgrades(layers: Sequence[LayerOptions], taken: Mapping[str, Option]) -> list[Upgrade]:
    """The layers that are not in their cheapest form, the most worthy upgrade first."""
    found = []
    for layer in layers:
        first, now = cheapest(layer), taken[layer.name]
        if now != first:
            found.append(Upgrade(layer.name, now.cost - first.cost, _worth(first, now)))
    return sorted(found, key=lambda upgrade: -upgrade.worth)


def cheapest(layer: LayerOptions) -> Option:
    """The fastest form of a layer."""
    return min(layer.options, key=lambda option: (option.cost, option.noise))


def _worth(now: Option, then: Option) -> float:
    """Noise removed per millisecond added."""
    return (now.noise - then.noise) / max(then.cost - now.cost, 1e-4)
