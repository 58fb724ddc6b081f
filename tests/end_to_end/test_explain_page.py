"""`vit-edge explain` on the bundle of the embedded model: float beside INT8."""

from pathlib import Path

import pytest
from PIL import Image

from tests.end_to_end.digits import Built
from vit_edge.cli import main


def test_a_bundle_shows_float_and_int8_side_by_side(
    built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next((built.images / "test" / "seven").iterdir())
    out = tmp_path / "heat.png"
    words = ["explain", str(built.bundle), str(image), "-o", str(out), "--threads", "1", "--steps", "8"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("onnx/model.onnx: occlusion of seven; seven ")
    assert lines[1].startswith("onnx/model_cpu-x86-vnni.onnx: occlusion of seven; seven ")
    assert float(lines[2].removeprefix("correlation of both maps: ")) > 0.9
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        assert picture.size[0] > 3 * 320


def test_a_bundle_has_no_attention_and_says_what_has(
    built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next((built.images / "test" / "seven").iterdir())
    words = [
        "explain",
        str(built.bundle),
        str(image),
        "-o",
        str(tmp_path / "heat.png"),
        "--method",
        "rollout",
    ]
    assert main(words) == 2
    assert "vit-edge export --attention" in capsys.readouterr().err
    assert not (tmp_path / "heat.png").exists()


def test_gradients_of_a_bundle_are_those_of_its_float_model(
    built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next((built.images / "test" / "seven").iterdir())
    words = ["explain", str(built.bundle), str(image), "-o", str(tmp_path / "heat.png")]
    assert main([*words, "--threads", "1", "--method", "gradient"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("onnx/model.onnx: gradient of seven; seven ")
