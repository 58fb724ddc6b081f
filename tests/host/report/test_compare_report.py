"""`vit-edge compare --report` on pairs of files, ours or not: the whole way, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic
from PIL import Image

from tests.host.report.models import CLASSES, SIDE, SPEC, constants, float_nodes, model, qdq_nodes, weights
from vit_edge.cli import main
from vit_edge.host.report import needs
from vit_edge.runtime.model.metadata import LABELS_KEY, PREPROCESS_KEY

Output = pytest.CaptureFixture[str]
LABELS = [f"class <{index}>" for index in range(CLASSES)]
IMAGES = 30


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """A float model that carries its labels and preprocessing."""
    metadata = {LABELS_KEY: json.dumps(LABELS), PREPROCESS_KEY: json.dumps(SPEC.to_json())}
    return model(tmp_path, float_nodes(), {"w": weights()}, "float.onnx", metadata).path


@pytest.fixture
def narrow(tmp_path: Path) -> Path:
    """The same with a range so narrow that answers change; it carries nothing."""
    return model(tmp_path, qdq_nodes(), constants(0.0004, 0), "narrow.onnx").path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Noise with one bright column, which the narrow range makes no brighter than the others; no labels."""
    random = np.random.default_rng(7)
    (tmp_path / "images").mkdir()
    for index in range(IMAGES):
        pixels = random.integers(0, 40, (SIDE, SIDE, 3), dtype=np.uint8)
        pixels[:, index % SIDE] = 255
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index:02}<i>.png")
    return tmp_path / "images"


def compare(reference: Path, other: Path, images: Path, report: Path) -> int:
    words = ["compare", str(reference), str(other), "--data", str(images), "--report", str(report)]
    return main([*words, "--threads", "1", "--self"])


def facts_of(report: Path) -> dict[str, Any]:
    found = re.search(
        r'<script type="application/json" id="facts">(.*?)</script>', report.read_text(), re.DOTALL
    )
    assert found is not None
    read: dict[str, Any] = json.loads(found[1])
    return read


def test_a_report_is_made_of_two_files_of_which_one_knows_nothing(
    reference: Path, narrow: Path, images: Path, tmp_path: Path
) -> None:
    report, figures = tmp_path / "report.html", tmp_path / "figures.json"
    words = ["compare", str(reference), str(narrow), "--data", str(images), "--report", str(report)]
    status = main([*words, "--threads", "1", "--json", str(figures)])
    read, printed = facts_of(report), json.loads(figures.read_text())
    gate, flips = read["gate"], read["flips"]
    assert status == 1
    assert gate["verdict"] == printed["verdict"] == "FAIL"
    changed = round(IMAGES * (100 - printed["agreement"]) / 100)
    assert read["flips_total"] == changed > 0
    assert len(flips) == min(changed, 24) == report.read_text().count("data:image/jpeg;base64,")
    assert all(each["float_top"][0]["label"] != each["quant_top"][0]["label"] for each in flips)
    assert all(each["truth"] is None and each["float_top"][0]["label"] in LABELS for each in flips)
    sure = [each["float_top"][0]["probability"] for each in flips]
    assert sure == sorted(sure, reverse=True)


def test_a_file_of_another_maker_is_observed_profiled_and_timed(
    reference: Path, images: Path, tmp_path: Path
) -> None:
    dynamic, report = tmp_path / "dynamic.onnx", tmp_path / "report.html"
    quantize_dynamic(reference, dynamic, weight_type=QuantType.QInt8)
    compare(reference, dynamic, images, report)
    read = facts_of(report)
    first, second = read["models"]
    assert [first["gate"], read["layers"], read["recipe"]] == [None, [], {}]
    assert second["operators"][0]["ms"] > 0
    assert len(second["times_ms"]) >= 30
    assert second["size_mb"] == pytest.approx(dynamic.stat().st_size / 1e6)
    (seen,) = read["ranges"]["activations"]
    assert seen["kind"] == "per run"
    assert str(tmp_path.parent) not in report.read_text()  # a report may be handed on


def test_equal_models_have_no_flips(reference: Path, images: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    compare(reference, reference, images, report)
    read = facts_of(report)
    assert (read["flips_total"], read["judged"]) == (0, f"{read['reference']} (again)")
    assert "Both models give the same answer" in report.read_text()


def test_names_of_files_and_labels_do_no_harm(
    reference: Path, narrow: Path, images: Path, tmp_path: Path
) -> None:
    hostile = narrow.rename(tmp_path / "<img src=x onerror=alert(1)>.onnx")
    report = tmp_path / "report.html"
    compare(reference, hostile, images, report)
    text = report.read_text()
    assert "<img src=x" not in text
    assert "<i>.png" not in text
    assert "class <" not in text
    assert "class &lt;" in text


@pytest.mark.parametrize("where", ["nowhere/report.html", "."])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    where: str, reference: Path, narrow: Path, images: Path, tmp_path: Path, capsys: Output
) -> None:
    assert compare(reference, narrow, images, tmp_path / where) == 2
    err = capsys.readouterr().err
    assert err.startswith("vit-edge: error: --report ")
    assert err.endswith("cannot be written: name a file in a folder that exists\n")
    assert err.count("\n") == 1


def test_a_missing_extra_is_one_sentence_before_the_work(
    reference: Path,
    narrow: Path,
    images: Path,
    tmp_path: Path,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(needs, "_NEEDED", ("a_module_that_is_nowhere",))
    assert compare(reference, narrow, images, tmp_path / "report.html") == 2
    assert capsys.readouterr().err == (
        "vit-edge: error: a_module_that_is_nowhere is not installed; run: pip install 'vit-edge[report]'\n"
    )
    assert not (tmp_path / "report.html").exists()


def test_without_preprocessing_nothing_is_written(
    narrow: Path, images: Path, tmp_path: Path, capsys: Output
) -> None:
    assert compare(narrow, narrow, images, tmp_path / "report.html") == 2
    assert "carries its preprocessing" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()
