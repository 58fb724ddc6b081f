"""What is said about a graph as onnxruntime runs it, against graphs whose structure is known."""

import dataclasses
from pathlib import Path

import pytest

from tests.host.quantize.forced import FLOAT_FIRST, STATIC_FIRST, Costs, quantized
from tests.host.quantize.small_vit import DEPTH, PREPROCESS, lowering, written
from vit_edge.host.bundling.fusion import fusion_of
from vit_edge.host.convert.onnx_io import finish, save_onnx
from vit_edge.host.lower.model import lower
from vit_edge.host.plan import FLOAT as NO_PLAN
from vit_edge.host.quantize.observe import SESSION_OPTIONS
from vit_edge.host.quantize.types import Preset, QuantizeSettings
from vit_edge.manifest import IntegerGraph
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.runtime.model.metadata import ModelMetadata
from vit_edge.runtime.session.session import SessionSettings

LINEARS = 4 * DEPTH + 1  # qkv, proj, fc1 and fc2 of each block, and the head; the last block's qkv is two


def fused(model: ModelFile) -> IntegerGraph:
    return fusion_of(model, SessionSettings("cpu", threads=1))


def file_of(folder: Path, attentions: Costs | None) -> ModelFile:
    """The small model in float, or with integer linear layers and attention as is cheapest."""
    settings = QuantizeSettings(Preset.FAST, images=8)
    canonical, found = quantized(
        written(folder, 8), settings, attentions=attentions or STATIC_FIRST, target_db=1.0
    )
    plan = NO_PLAN if attentions is None else found.plan
    metadata = ModelMetadata(
        tuple("abcdefghij"), PREPROCESS, tuple(SESSION_OPTIONS.items()), ("small", "0" * 64)
    )
    path = folder / "model.onnx"
    save_onnx(finish(lower(canonical, lowering(None), plan), metadata), path)
    return read_model(path)


def test_an_integer_model_has_neither_islands_nor_unfused_pairs(tmp_path: Path) -> None:
    found = fused(file_of(tmp_path, STATIC_FIRST))
    assert (found.float_products, found.islands, found.unfused) == (0, 0, 0)
    assert found.integer_products >= LINEARS + 2 * DEPTH


def test_float_attention_is_an_island_between_integer_layers(tmp_path: Path) -> None:
    found = fused(file_of(tmp_path, FLOAT_FIRST))
    assert (found.float_products, found.islands, found.unfused) == (2 * DEPTH, 2 * DEPTH, 0)


def test_a_float_model_has_no_island_for_there_is_nothing_around_it(tmp_path: Path) -> None:
    model = file_of(tmp_path, None)
    found = fused(model)
    assert (found.integer_products, found.islands, found.unfused) == (0, 0, 0)
    assert found.float_products >= LINEARS + 2 * DEPTH


def test_pairs_that_are_not_fused_are_counted(tmp_path: Path) -> None:
    model = file_of(tmp_path, STATIC_FIRST)
    options = tuple(sorted({**SESSION_OPTIONS, "session.disable_quant_qdq": "1"}.items()))
    found = fused(dataclasses.replace(model, session_options=options))
    assert found.unfused > LINEARS
    assert f"{found.unfused} DequantizeLinear left unfused" in found.summary


def test_the_shares_of_all_operators_add_up(tmp_path: Path) -> None:
    found = fused(file_of(tmp_path, STATIC_FIRST))
    assert sum(each.share for each in found.operators) == pytest.approx(1)
    shares = [each.share for each in found.operators]
    assert shares == sorted(shares, reverse=True)
    assert found.operators[0].operator in found.summary
