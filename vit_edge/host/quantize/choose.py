"""Which form each layer gets: a small knapsack of measured damage against measured cost.

Every layer starts in its cheapest form. The upgrade (to a row range, to float) that removes most damage per
millisecond is taken until the predicted damage of all layers together is within the preset's budget. Damages
are noise powers of the logits and add up; that they do is checked on the finished model, not assumed.
"""

import dataclasses
from collections.abc import Sequence

from vit_edge.host.quantize.types import Form


@dataclasses.dataclass(frozen=True)
class Option:
    """One form of a layer."""

    form: Form
    damage: float  # noise power over signal power of the logits, with this layer alone in this form
    cost: float  # milliseconds


@dataclasses.dataclass(frozen=True)
class Choice:
    """A layer and the forms it may take."""

    name: str
    options: tuple[Option, ...]


def choose(layers: Sequence[Choice], budget: float) -> dict[str, Option]:
    """The option of each layer; total damage at most `budget` where the options allow it.

    Args:
        layers: each with at least one option.
        budget: noise power over signal power of the logits.
    """
    taken = {layer.name: cheapest(layer) for layer in layers}
    while sum(option.damage for option in taken.values()) > budget:
        upgrades = [
            (_worth(taken[layer.name], option), layer.name, option)
            for layer in layers
            for option in layer.options
            if option.damage < taken[layer.name].damage
        ]
        if not upgrades:
            break
        _, name, option = max(upgrades, key=lambda upgrade: upgrade[0])
        taken[name] = option
    return taken


def cheapest(layer: Choice) -> Option:
    """The fastest form of a layer."""
    return min(layer.options, key=lambda option: (option.cost, option.damage))


def _worth(now: Option, then: Option) -> float:
    """Damage removed per millisecond added."""
    return (now.damage - then.damage) / max(then.cost - now.cost, 1e-4)
