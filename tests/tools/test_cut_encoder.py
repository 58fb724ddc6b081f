"""The tool that makes an embedding model of what stands in front of a head."""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.host.dense_models import dense_onnx
from tests.host.vit_forms import DIM, IMAGE
from tools import cut_encoder as tool
from vit_edge.host.convert.apart import canonical_of
from vit_edge.host.convert.export import export
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.spec import Interpolation, OutputKind, ResizeMode

TOKENS = "/norm/Add_1_output_0"  # as torch's exporter calls what the last norm gives


def test_the_class_token_of_a_dense_model_becomes_an_embedding_that_is_canonical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, made = tmp_path / "given.onnx", tmp_path / "encoder.onnx"
    given.write_bytes(dense_onnx("decoder").SerializeToString())
    words = ["cut_encoder", str(given), "--tokens", TOKENS, "-o", str(made), "--size", f"{IMAGE}x{IMAGE}"]
    monkeypatch.setattr(sys, "argv", words)
    tool.main()
    pixels = np.random.default_rng(1).standard_normal((2, 3, IMAGE, IMAGE), dtype=np.float32)

    def run(model: onnx.ModelProto) -> np.ndarray:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        found: np.ndarray = session.run(None, {session.get_inputs()[0].name: pixels})[0]
        return found

    tokens = run(tool.cut_encoder(given, TOKENS, (IMAGE, IMAGE)))
    np.testing.assert_array_equal(run(onnx.load(made)), tokens[:, 0])
    stated = SourceOptions(
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        resize_mode=ResizeMode.EXACT,
        interpolation=Interpolation.BILINEAR,
        output_kind=OutputKind.EMBEDDING,
    )
    source = resolve(str(made), stated)
    assert (source.output, source.numbers) == (OutputKind.EMBEDDING, DIM)
    assert canonical_of(source, export(source)[0]).description is not None


def test_a_tensor_that_there_is_not_is_refused(tmp_path: Path) -> None:
    given = tmp_path / "given.onnx"
    given.write_bytes(dense_onnx("decoder").SerializeToString())
    with pytest.raises(ValueError, match="not found in value_infos: nothing"):
        tool.cut_encoder(given, "nothing", (IMAGE, IMAGE))
