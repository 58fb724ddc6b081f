"""Quantizing the small model with given costs, so that nothing depends on what this machine measures."""

from pathlib import Path

import pytest

from tests.host.quantize.small_vit import PREPROCESS, small
from vit_edge.host.quantize import cost as cost_module
from vit_edge.host.quantize import cost_table as table_module
from vit_edge.host.quantize import search as search_module
from vit_edge.host.quantize.search import search_of
from vit_edge.host.quantize.types import Form, Goal, Preset, Quantization, QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical

Costs = dict[Form, float]
STATIC_FIRST: Costs = {Form.STATIC: 1.0, Form.PER_TOKEN: 2.0, Form.FINE: 3.0, Form.FLOAT: 4.0}
ROW_FIRST: Costs = {Form.STATIC: 2.0, Form.PER_TOKEN: 1.0, Form.FINE: 3.0, Form.FLOAT: 4.0}
FLOAT_FIRST: Costs = {Form.STATIC: 2.0, Form.PER_TOKEN: 3.0, Form.FINE: 4.0, Form.FLOAT: 1.0}


def give_costs(patch: pytest.MonkeyPatch, linears: Costs, attentions: Costs) -> None:
    """State what forms cost, so that nothing depends on what this machine measures, or once did."""
    patch.setattr(cost_module, "linear_costs", lambda _: linears)
    patch.setattr(cost_module, "attention_costs", lambda _: attentions)
    patch.setattr(cost_module, "gelu_costs", lambda *_: {Form.TANH: 1.0, Form.FLOAT: 2.0})
    patch.setattr(table_module, "read_cached", lambda *_: None)
    patch.setattr(table_module, "write_cached", lambda *_: True)


def quantized(
    paths: list[Path],
    settings: QuantizeSettings,
    linears: Costs = STATIC_FIRST,
    attentions: Costs = STATIC_FIRST,
    target_db: float | None = None,
) -> tuple[Canonical, Quantization]:
    """The model, folded, and its quantization; without a target every layer takes its cheapest form."""
    with pytest.MonkeyPatch.context() as patch:
        give_costs(patch, linears, attentions)
        if target_db is not None:
            goal = Goal(target_db, float_layers=settings.preset is Preset.ACCURATE)
            patch.setattr(search_module, "GOALS", dict.fromkeys(Preset, goal))
        search = search_of(small(), paths, PREPROCESS, settings)
        return search.canonical, search.first()
