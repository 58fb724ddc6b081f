"""What is not, or only partly, a ViT: convolutions in integers, at least as close as onnxruntime's own."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

from tests.host.quantize.convnets import IMAGE, NETWORKS, network_onnx
from vit_edge.arrays import Array
from vit_edge.cli import main
from vit_edge.host.ort import cpu_session
from vit_edge.host.quantize.conv_plans import SAFE_STEPS, STEPS, rounded
from vit_edge.host.quantize.observe import SESSION_OPTIONS
from vit_edge.runtime.model.file import read_model
from vit_edge.runtime.session.session import Session, SessionSettings

STATED = ["--mean", "0.5", "0.5", "0.5", "--std", "0.25", "0.25", "0.25"]
GEOMETRY = ["--resize-mode", "exact", "--interpolation", "bilinear", "--allow-uncanonical"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for name, count in (("calib", 24), ("check", 64)):
        (folder / name).mkdir()
        for index in range(count):
            coarse = Image.fromarray(generator.integers(0, 256, (5 + index % 4, 6, 3), np.uint8))
            coarse.resize((IMAGE, IMAGE), Image.Resampling.BICUBIC).save(folder / name / f"{index}.png")
    return folder


def normalised(folder: Path) -> Array:
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])
    made: Array = ((pixels.transpose(0, 3, 1, 2) / np.float32(255) - 0.5) / 0.25).astype(np.float32)
    return made


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, values: Array) -> None:
        self.rows = iter([{"pixel_values": value[None]} for value in values])

    def get_next(self) -> dict[str, Array] | None:
        return next(self.rows, None)


def answers(path: Path, values: Array) -> Array:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.add_session_config_entry("session.x64quantprecision", "1")  # exact sums of products on any CPU
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    made: Array = session.run(None, {session.get_inputs()[0].name: values})[0]
    return made


def fused(path: Path, out: Path) -> list[str]:
    """The operators that onnxruntime runs."""
    cpu_session(path.read_bytes(), SESSION_OPTIONS.items(), threads=1, optimised=out)
    return [node.op_type for node in onnx.load(out).graph.node]


def sqnr(exact: Array, found: Array) -> float:
    noise = np.square(exact - found, dtype=np.float64).sum()
    return float(10 * np.log10(np.square(exact, dtype=np.float64).sum() / noise))


@pytest.mark.parametrize("kind", NETWORKS)
def test_it_is_at_least_as_close_to_float_as_onnxruntimes_own_quantizer(
    kind: str, images: Path, tmp_path: Path
) -> None:
    given, prepared, theirs, ours = (tmp_path / f"{name}.onnx" for name in ("f", "p", "q", "o"))
    onnx.save(network_onnx(kind), given)
    quant_pre_process(given, prepared)
    calibration, check = normalised(images / "calib"), normalised(images / "check")
    quantize_static(
        prepared,
        theirs,
        Reader(calibration),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    words = ["quantize", str(given), "--calib", str(images / "calib"), "-o", str(ours), "--preset", "static"]
    assert main([*words, *STATED, *GEOMETRY]) == 0
    written = onnx.load(ours)
    inside = [node for node in written.graph.node if node.op_type == "Conv"]
    made_by = {name: node.op_type for node in written.graph.node for name in node.output}
    assert inside
    assert all(made_by[node.input[1]] == "DequantizeLinear" for node in inside)
    assert fused(ours, tmp_path / "fused.onnx").count("QLinearConv") == len(inside)
    exact = answers(given, check)
    reached, least = sqnr(exact, answers(ours, check)), sqnr(exact, answers(theirs, check))
    assert reached >= least, f"{reached:.1f} dB, onnxruntime's quantizer {least:.1f} dB"


@pytest.mark.parametrize("form", ["pixel_values", "pixels"])
def test_a_convolutional_network_is_optimized_in_either_form(form: str, tmp_path: Path) -> None:
    given, out = tmp_path / "given.onnx", tmp_path / "out.onnx"
    onnx.save(network_onnx("mobilenet"), given)
    assert main(["optimize", str(given), "-o", str(out), "--input", form, *STATED, *GEOMETRY]) == 0
    pixels = np.random.default_rng(0).integers(0, 256, (3, IMAGE, IMAGE, 3), np.uint8)
    values = ((pixels.transpose(0, 3, 1, 2) / np.float32(255) - 0.5) / 0.25).astype(np.float32)
    made = Session(read_model(out), SessionSettings("cpu", threads=1)).run(pixels)
    np.testing.assert_allclose(made, answers(given, values), atol=1e-4, rtol=0)


def test_a_bundle_says_how_much_of_it_integers_compute(images: Path, tmp_path: Path) -> None:
    onnx.save(network_onnx("resnet"), tmp_path / "resnet.onnx")
    words = ["--calib", str(images / "calib"), "--data", str(images / "check"), "--threads", "1"]
    more = ["--repair", "never", "--max-changed", "30", "-o", str(tmp_path / "bundle")]
    assert main(["build", str(tmp_path / "resnet.onnx"), *words, *more, *STATED, *GEOMETRY]) in (0, 1, 3)
    manifest = json.loads((tmp_path / "bundle" / "vit_edge.json").read_text())
    assert 0.5 < manifest["quantization"]["integer_macs"] <= 1
    forms = {layer["name"]: layer["form"] for layer in manifest["layers"]}
    assert {f"conv.{place}" for place in range(9)} <= set(forms)
    assert "int8" in forms.values()
    assert main(["selftest", str(tmp_path / "bundle")]) == 0


@pytest.mark.parametrize("steps", [STEPS, SAFE_STEPS])
def test_weights_are_rounded_to_the_nearest_step_of_their_channel(steps: int) -> None:
    weight = np.random.default_rng(0).standard_normal((5, 3, 3, 3)).astype(np.float32)
    weight[3] = 0
    coded, scale = rounded(weight, steps)
    assert np.abs(coded.astype(int)).max() == steps
    restored = coded * scale[:, None, None, None]
    assert (np.abs(restored - weight) <= 0.5001 * scale[:, None, None, None]).all()


def test_no_two_products_of_safe_weights_saturate() -> None:
    assert 2 * 255 * SAFE_STEPS <= 2**15 - 1
