"""What forms of layers cost on this kind of machine, kept in the user's cache folder.

Figures that were measured once are used again, so the same images give the same choices, however busy the
machine was in between. There is one file for each processor, system and version of onnxruntime; delete the
folder `costs` in the cache folder to measure again. A damaged file is as if there were none.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Annotated

from vit_edge import fields, plain
from vit_edge.host.quantize.types import Form
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.device.user_cache import read_cached, write_cached

VERSION = 2  # of the way to measure

_MOST_BYTES = 2**20
_LONGEST = 1e7  # milliseconds


@dataclasses.dataclass(frozen=True)
class FormCost:
    """What one form takes."""

    form: Form
    milliseconds: Annotated[float, plain.Within(0, _LONGEST)]


@dataclasses.dataclass(frozen=True)
class KeptCosts:
    """What all forms of layers of one shape take, timed beside one another."""

    what: str
    costs: tuple[FormCost, ...]


@dataclasses.dataclass(frozen=True)
class _Kept:
    layers: tuple[KeptCosts, ...]


class CostTable:
    """Costs by what was timed; read when the first is asked for, written with each that is new."""

    def __init__(self) -> None:
        self.known: dict[str, dict[Form, float]] | None = None

    def of(self, what: str, measure: Callable[[], Mapping[Form, float]]) -> dict[Form, float]:
        """Milliseconds of each form of `what`: those that are kept, else what `measure` finds now."""
        if self.known is None:
            self.known = _read()
        if what not in self.known:
            self.known[what] = dict(measure())
            self.known |= {kept: costs for kept, costs in _read().items() if kept not in self.known}
            _write(self.known)
        return self.known[what]


def _read() -> dict[str, dict[Form, float]]:
    name = _name()
    data = read_cached(name, _MOST_BYTES)
    try:
        kept = _Kept(()) if data is None else plain.read(_Kept, fields.parse_json(data, name), name)
    except ValueError:
        return {}
    return {layer.what: {each.form: each.milliseconds for each in layer.costs} for layer in kept.layers}


def _write(known: Mapping[str, Mapping[Form, float]]) -> None:
    layers = [
        KeptCosts(what, tuple(FormCost(form, milliseconds) for form, milliseconds in costs.items()))
        for what, costs in sorted(known.items())
    ]
    write_cached(_name(), json.dumps(plain.of(_Kept(tuple(layers)))).encode())


def _name() -> str:
    """The file for this kind of machine."""
    machine = describe_machine()
    told = [VERSION, machine.cpu, machine.flags, machine.system, machine.onnxruntime]
    return f"costs/{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]}.json"
