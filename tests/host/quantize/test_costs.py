"""What forms cost: timed until it is settled, then kept, so that a busy machine chooses as a quiet one."""

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.host.quantize.small_vit import PREPROCESS, lowering, small, written
from vit_edge.host.lower.model import lower
from vit_edge.host.quantize import cost as cost_module
from vit_edge.host.quantize import cost_table as table_module
from vit_edge.host.quantize.cost import MOST_ROUNDS, ROUNDS, RUNS, Costs, LinearShape, linear_costs, settled
from vit_edge.host.quantize.cost_table import CostTable
from vit_edge.host.quantize.search import search_of
from vit_edge.host.quantize.types import Form, Preset, QuantizeSettings
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.device.user_cache import cache_folder

TRUE = {Form.STATIC: 1.0, Form.PER_TOKEN: 1.3, Form.FLOAT: 4.0}  # ms


class Machine:
    """A clock that runs on while something is computed, and while others compute, too."""

    def __init__(self, others: Callable[[], float]) -> None:
        self.now, self.others, self.runs = 0.0, others, 0

    def __call__(self) -> float:
        return self.now

    def run(self, form: Form) -> None:
        self.runs += 1
        self.now += (TRUE[form] + self.others()) / 1e3

    def settled(self) -> dict[Form, float]:
        return settled({form: lambda form=form: self.run(form) for form in TRUE}, self)  # type: ignore[misc]


def test_on_a_quiet_machine_the_least_rounds_are_enough() -> None:
    machine = Machine(lambda: 0.0)
    assert machine.settled() == pytest.approx(TRUE)
    assert machine.runs == ROUNDS * RUNS * len(TRUE)


@pytest.mark.parametrize("seed", range(5))
def test_a_busy_machine_gives_nearly_the_same(seed: int) -> None:
    """Others take half a millisecond on average, and at times many."""
    rng = np.random.default_rng(seed)
    found = Machine(lambda: float(rng.exponential(0.5) + 20 * (rng.random() < 0.1))).settled()
    assert all(TRUE[form] <= cost * (1 + 1e-9) and cost <= TRUE[form] + 0.1 for form, cost in found.items())


def test_a_machine_that_never_settles_is_given_up() -> None:
    faster = itertools.count()
    machine = Machine(lambda: 1e9 * 0.98 ** next(faster))
    machine.settled()
    assert machine.runs == MOST_ROUNDS * RUNS * len(TRUE)


def test_every_form_of_a_layer_is_timed() -> None:
    found = linear_costs(LinearShape(5, 8, 12))
    assert set(found) == {*TRUE, Form.FINE}
    assert all(0 < cost < 1e4 for cost in found.values())


def timed(costs: dict[Form, float]) -> Callable[[], dict[Form, float]]:
    return lambda: dict(costs)


def refuse() -> dict[Form, float]:
    raise AssertionError("it was measured again")


def test_what_was_measured_once_is_kept() -> None:
    first = CostTable().of("linear 1x2x3", timed(TRUE))
    assert first == TRUE
    assert CostTable().of("linear 1x2x3", refuse) == first


def test_tables_of_two_builds_at_once_are_joined() -> None:
    one, other = CostTable(), CostTable()
    one.of("a", timed(TRUE))
    other.of("b", timed(TRUE))
    one.of("c", timed(TRUE))
    again = CostTable()
    assert [again.of(what, refuse) for what in "abc"] == [TRUE] * 3


@pytest.mark.parametrize(
    "change", [{"cpu": "another"}, {"flags": ("none",)}, {"onnxruntime": "0.1"}, {"system": "Plan 9"}]
)
def test_another_machine_or_version_is_measured(
    change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    CostTable().of("a", timed(TRUE))
    machine = describe_machine()
    other = dataclasses.replace(machine, **change)  # type: ignore[arg-type]
    monkeypatch.setattr(table_module, "describe_machine", lambda: other)
    with pytest.raises(AssertionError, match="measured again"):
        CostTable().of("a", refuse)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"layers": 3}',
        b'{"layers": [{"what": "a", "costs": [{"form": "int9", "milliseconds": 1.0}]}]}',
        b'{"layers": [{"what": "a", "costs": [{"form": "int8", "milliseconds": -1.0}]}]}',
        b'{"layers": [{"what": "a", "costs": [{"form": "int8", "milliseconds": 1e999}]}]}',
        b"[" * 10**5,
    ],
)
def test_a_damaged_table_is_as_if_there_were_none(content: bytes) -> None:
    CostTable().of("a", timed(TRUE))
    folder = cache_folder()
    assert folder is not None
    (path,) = (folder / "costs").iterdir()
    path.write_bytes(content)
    other = {form: 2 * cost for form, cost in TRUE.items()}
    assert CostTable().of("a", timed(other)) == other
    assert json.loads(path.read_bytes())["layers"][0]["what"] == "a"


def test_layers_of_one_shape_share_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[LinearShape] = []

    def measure(shape: LinearShape) -> dict[Form, float]:
        asked.append(shape)
        return TRUE

    monkeypatch.setattr(cost_module, "linear_costs", measure)
    nodes = [node for node in small().model.graph if node.op_type == "Linear"]
    costs = Costs()
    for node in nodes:
        costs.of_linear(node)
    assert len(asked) == len(set(asked)) < len(nodes)


def test_the_same_images_give_the_same_bytes_however_busy_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every measurement gives other costs here; those of the first build are kept."""
    rng = np.random.default_rng(0)

    def measure(*_: object) -> dict[Form, float]:
        return dict(zip(Form, rng.uniform(0.5, 2.0, len(Form)).tolist(), strict=True))

    for name in ("linear_costs", "attention_costs", "gelu_costs"):
        monkeypatch.setattr(cost_module, name, measure)
    paths = written(tmp_path, 6)

    def built() -> bytes:
        search = search_of(small(), paths, PREPROCESS, QuantizeSettings(Preset.BALANCED, 6))
        plan = search.first().plan
        return bytes(lower(search.canonical, lowering(None), plan).SerializeToString(deterministic=True))

    first = built()
    assert rng.bit_generator.state != np.random.default_rng(0).bit_generator.state  # it was measured
    before = rng.bit_generator.state
    assert built() == first
    assert rng.bit_generator.state == before  # and not again
