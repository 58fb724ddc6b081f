"""The tool that measures embedders by what their forms are chosen for, on the embedded model."""

import json
from pathlib import Path

import pytest

from tools.digits import make_folders
from tools.embedder_noise import main

ROOT = Path(__file__).resolve().parents[2]


def test_each_aim_is_measured_beside_the_forms_of_the_classifier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folders(tmp_path / "digits")
    calibration, data = (str(tmp_path / "digits" / name) for name in ("calibration", "test"))
    words = ["--source", str(ROOT / "models" / "digits_vit"), "--calib", calibration, "--data", data]
    few = ["--calib-images", "24", "--count", "16", "--rounds", "3", "--aims", "patches", "--target", "cpu"]
    few += ["--times", "1.0", "1.03"]
    assert main([*words, *few, "-o", str(tmp_path / "r.json")]) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert [row["aim"] for row in result["aims"]] == ["logits", "patches", "patches"]
    logits, _, patches = result["aims"]
    for row in result["aims"]:
        assert row["layers_ratio"] <= row["time_allowed"] + 5e-4
        assert list(row["left_db"].values()) == sorted(row["left_db"].values())
    assert set(patches["outputs"]) == {"cls_embedding", "pooled_embedding", "patch_features"}
    noises = [row["outputs"]["patch_features"]["sqnr_db"] for row in (logits, patches)]
    assert noises[1] >= noises[0] - 0.5  # on images that neither search has seen, of which these are few
    assert logits["layers_ratio"] == 1.0
    assert 0.5 < patches["layers_ratio"] <= 1.03
    assert sum(patches["forms"].values()) == sum(logits["forms"].values())
    assert "| patches, 1.03 |" in capsys.readouterr().out


def test_a_source_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--calib", str(tmp_path), "--data", str(tmp_path), "-o", str(tmp_path / "r.json")]
    assert main(["--source", str(tmp_path / "none"), *words]) == 2
    assert "does not exist" in capsys.readouterr().err
