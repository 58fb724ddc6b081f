"""Registers are seen by attentions as tokens are, and by nothing else; what is told of them is so."""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from tests.host.quantize.small_vit import images, lowering, small
from tools import registers
from tools.registers import (
    Register,
    cores_of,
    peaks_of,
    registers_of,
    second_layers,
    seen,
    widest_layer,
    with_registers,
)
from vit_edge.errors import ModelError
from vit_edge.host.hybrid.rounding import logits_of
from vit_edge.host.lower.model import lower
from vit_edge.spec import GraphStyle

Floats = npt.NDArray[np.float32]
Array = npt.NDArray[np.generic]


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    form = dataclasses.replace(lowering().form, batch=1, style=GraphStyle.COMPILER)
    return lower(small(), dataclasses.replace(lowering(), form=form))


@pytest.fixture(scope="module")
def feeds() -> list[dict[str, Array]]:
    return [{"pixels": image[None]} for image in images(3)]


def parts(model: onnx.ModelProto, feeds: list[dict[str, Array]]) -> list[Floats]:
    """Keys and values of each attention in turn, of the first image."""
    names = [name for core in cores_of(model.graph) for name in (core.keys, core.values)]
    return seen(model, feeds[:1], names)[0]


def test_every_attention_has_keys_and_values(model: onnx.ModelProto, feeds: list[dict[str, Array]]) -> None:
    tensors = parts(model, feeds)
    assert len(cores_of(model.graph)) == len(second_layers(model.graph)) == len(tensors) // 2
    assert all(tensor.ndim == 4 for tensor in tensors)
    assert [tensor.shape for tensor in tensors[0::2]] == [tensor.shape for tensor in tensors[1::2]]


def test_an_attention_with_registers_is_one_over_more_tokens(
    model: onnx.ModelProto, feeds: list[dict[str, Array]]
) -> None:
    """The first attention against numpy, its register made of what a token has there, times two."""
    tensors = parts(model, feeds)
    register = Register(
        tuple(2 * each[:, :, 1:2] for each in tensors[0::2]),
        tuple(2 * each[:, :, 1:2] for each in tensors[1::2]),
    )
    made = with_registers(model, [register], 0, None)
    mix = next(node for node in made.graph.node if node.op_type == "MatMul" and "mix" in node.output[0])
    scores = next(node for node in made.graph.node if node.op_type == "MatMul" and "scores" in node.output[0])
    (queries, mixed), *_ = seen(made, feeds[:1], [scores.input[0], mix.output[0]])
    keys = np.concatenate([tensors[0], register.keys[0]], axis=2)
    values = np.concatenate([tensors[1], register.values[0]], axis=2)
    products = queries @ keys.transpose(0, 1, 3, 2)
    weights = np.exp(products - products.max(axis=-1, keepdims=True))
    expected = weights / weights.sum(axis=-1, keepdims=True) @ values
    np.testing.assert_allclose(mixed, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_registers_behind_the_last_attention_and_none_at_all_change_nothing(
    model: onnx.ModelProto, feeds: list[dict[str, Array]]
) -> None:
    exact = logits_of(model, feeds)
    found = registers_of(model, feeds, peaks_of(model, feeds, second_layers(model.graph)[0]))
    for made in (
        with_registers(model, [], 0, None),
        with_registers(model, found, len(cores_of(model.graph)), None),
    ):
        np.testing.assert_array_equal(logits_of(made, feeds), exact)
    assert not np.array_equal(logits_of(with_registers(model, found[:1], 0, None), feeds), exact)


def test_the_tensor_is_clipped_from_above_and_the_model_given_is_left_as_it_was(
    model: onnx.ModelProto, feeds: list[dict[str, Array]]
) -> None:
    before = model.SerializeToString()
    tensor = second_layers(model.graph)[-1]
    highest = float(peaks_of(model, feeds, tensor).max())
    made = with_registers(model, [], 0, (tensor, highest / 2))
    ((clipped,), *_) = seen(made, feeds, [f"{tensor}.clip"])
    assert clipped.max() == pytest.approx(highest / 2)
    assert model.SerializeToString() == before


def test_the_widest_layer_is_the_one_with_a_massive_token(
    model: onnx.ModelProto, feeds: list[dict[str, Array]], monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = second_layers(model.graph)
    calm = np.ones((3, 17), np.float32)
    wide = calm.copy()
    wide[1, 4] = 20.0
    monkeypatch.setattr(registers, "peaks_of", lambda *given: wide if given[2] == layers[1] else calm)
    name, peaks = widest_layer(model, feeds)
    assert name == layers[1]
    assert peaks is wide


def test_a_model_without_a_massive_token_is_refused(
    model: onnx.ModelProto, feeds: list[dict[str, Array]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registers, "peaks_of", lambda *_: np.full((3, 17), 9.0, np.float32))
    with pytest.raises(ModelError, match="no token reaches 10 times the median one"):
        widest_layer(model, feeds)


def test_a_model_without_mlps_is_refused(feeds: list[dict[str, Array]]) -> None:
    with pytest.raises(ModelError, match="no MLPs of two layers"):
        widest_layer(onnx.ModelProto(), feeds)


def test_a_source_that_is_not_there_is_refused_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--source", str(tmp_path / "none.onnx"), "--calib", str(tmp_path)]
    assert registers.main(words) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_the_table_has_a_row_for_every_measurement(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    row = {"registers": 1, "from_block": 8, "clipped": True, "massive_tokens": 3, "reach": 21.5}
    rows = [{**row, "agreement_with_float": 99.0, "sqnr_db": found} for found in (20.04, None)]

    def measured(_: argparse.Namespace) -> dict[str, object]:
        return {"rows": rows}

    monkeypatch.setattr(registers, "measure", measured)
    assert registers.main(["--source", "s", "--calib", str(tmp_path)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[2:] == [
        "| 1 | 8 | yes | 3 | 21.5 | 99.0 % | 20.0 dB |",
        "| 1 | 8 | yes | 3 | 21.5 | 99.0 % | the same |",
    ]
