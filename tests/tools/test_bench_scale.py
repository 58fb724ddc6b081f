"""The growth of latency, memory and a build: what it should be, and that all is measured and written."""

import json
from pathlib import Path
from typing import Any

import pytest

from tools import bench_scale
from tools.bench_scale import SHAPES, Shape, joined, main
from vit_edge.host.vit import VisionTransformer, VitConfig


@pytest.mark.parametrize(("name", "size"), [("tiny", 224), ("tiny", 384), ("small", 224)])
def test_weights_are_counted_as_they_are(name: str, size: int) -> None:
    shape = SHAPES[name]
    config = VitConfig((size, size), (16, 16), shape.dim, shape.depth, shape.heads, 4 * shape.dim, 1000)
    held = sum(parameter.numel() for parameter in VisionTransformer(config).parameters())
    assert shape.weights(size) == held


@pytest.mark.parametrize(("name", "giga"), [("tiny", 1.26), ("small", 4.6), ("base", 17.56), ("large", 61.6)])
def test_multiply_adds_are_those_that_papers_give(name: str, giga: float) -> None:
    """DeiT (Touvron et al. 2021, table 5) and timm's table of ViT-Large, at 224 pixels."""
    assert SHAPES[name].multiply_adds(224) / 1e9 == pytest.approx(giga, rel=0.01)


def test_attention_grows_with_the_square_of_the_tokens() -> None:
    shape = Shape(64, 1, 1)
    few, many = shape.tokens(224), shape.tokens(448)
    linear = (12 * 64**2 + 3 * 256 * 64) * (many - few)
    assert shape.multiply_adds(448) - shape.multiply_adds(224) == linear + 2 * 64 * (many**2 - few**2)


def test_a_size_that_is_no_multiple_of_the_patch_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--sizes", "100"])
    assert "--sizes 100 is no multiple of 16" in capsys.readouterr().err


def test_an_output_of_another_machine_is_refused_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scale.json"
    out.write_text(json.dumps({"machine": {"cpu": "another"}, "builds": [], "latency": []}))
    monkeypatch.setattr(bench_scale, "build", lambda *_: pytest.fail("something was built"))
    with pytest.raises(SystemExit):
        main(["--shapes", "tiny", "-o", str(out)])
    assert "holds figures of another machine; choose another file with -o" in capsys.readouterr().err


def test_rows_of_other_shapes_and_sizes_are_kept_small_models_first() -> None:
    def rows(*cases: tuple[str, int, int]) -> dict[str, Any]:
        made = [{"shape": shape, "image_size": size, "value": value} for shape, size, value in cases]
        return {"machine": {}, "builds": made, "latency": made}

    found = joined(rows(("base", 224, 1), ("tiny", 384, 1), ("tiny", 224, 1)), rows(("tiny", 384, 2)))
    assert found == rows(("tiny", 224, 1), ("tiny", 384, 2), ("base", 224, 1))
    assert joined(None, found) == found


def test_everything_is_measured_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(bench_scale.SHAPES, "tiny", Shape(48, 2, 3))
    out = tmp_path / "scale.json"
    loads = ["--batches", "1", "2", "--rounds", "2", "--images", "3"]
    main(["--shapes", "tiny", "--sizes", "32", *loads, "-o", str(out)])
    raw = json.loads(out.read_text())
    (built,) = raw["builds"]
    assert built["int8_mb"] < built["float_mb"]
    assert built["processor_seconds"] > 0
    assert built["peak_mb"] > 100  # torch alone takes more
    assert [(each["precision"], each["batch"]) for each in raw["latency"]] == [
        ("float", 1),
        ("int8", 1),
        ("float", 2),
        ("int8", 2),
    ]
    assert all(each["min_ms"] > 0 and each["memory_mb"] > 10 for each in raw["latency"])
    assert "million weights, quantized in" in capsys.readouterr().out
