"""What the comparison with everybody's quantizers says: its file, its tables, its charts and its page."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from tools.peers import record
from tools.peers.charts import bars, scatter
from tools.peers.environments import Installed
from tools.peers.page import BEGIN, PAGE, RESULTS, drawn, page
from tools.peers.table import environments, markdown
from tools.written_page import END, IMAGES
from vit_edge.errors import UsageError


def row(name: str, agreement: float, ratio: float, engine: str = "onnxruntime 1") -> dict[str, Any]:
    return {
        "name": name,
        "size_mb": 6.0,
        "agreement": agreement,
        "logit_sqnr_db": None if name == "float" else 20.0,
        "top1": 88.0,
        "drop": 1.0,
        "drop_interval_95": [-1.0, 2.0],
        "ratio_to_float": {"median": ratio},
        "made": {"engine": engine, "lines": 7, "cpu_seconds": 12.4, "peak_mb": 300.0},
    }


def result() -> dict[str, Any]:
    absent = Installed(("peer==1",), "peer", "no | such package", 0.0, None, {})
    there = Installed(("onnxruntime==1",), "onnxruntime", None, 200.0, 0.5, {"numpy": "2"})
    return {
        "machine": {"flags": ["avx2", "avx512_vnni"], "cores": 2, "cpu": "CPU", "system": "Linux"},
        "limit_s": 600,
        "calibration": {"images": 128},
        "evaluation": {"images": 500},
        "latency": {"rounds": 40},
        "environments": {"peer": vars(absent), "onnxruntime": vars(there)},
        "rows": [
            row("float", 100.0, 1.0),
            row("far", 0.0, 0.9),
            row("vit-edge near", 100.0, 0.4, "OpenVINO 2026"),
            {"name": "gone", "note": "took | too long"},
        ],
    }


def test_the_table_has_the_closest_first_and_the_reason_of_what_has_no_figures() -> None:
    lines = markdown(result()).splitlines()
    assert [line.split(" | ")[1] for line in lines[2:5]] == ["float", "vit-edge near", "far"]
    assert lines[3].startswith(
        "| 1 | vit-edge near | OpenVINO | 88.0 % | 1.0 (-1.0 to 2.0) | 100.0 % | 20.0 dB | 0.40 |"
    )
    assert lines[3].endswith("| 6.0 MB | 12 s | 300 MB | 7 |")
    assert lines[-1] == "| gone | `took / too long` |"
    assert {line.count("|") for line in lines[:5]} == {lines[0].count("|")}


def test_environments_are_listed_with_their_weight_or_their_reason() -> None:
    lines = environments(result()).splitlines()
    assert lines[2] == "| peer | `peer==1` | not there: `no / such package` |  |"
    assert lines[3] == "| onnxruntime | `onnxruntime==1` | 200 MB | 0.5 s |"


@pytest.mark.parametrize("draw", [scatter, bars], ids=["scatter", "bars"])
def test_a_chart_is_an_svg_that_stands_alone_and_says_its_figures_in_words(draw: Any) -> None:
    text = draw(result())
    root = ElementTree.fromstring(text)  # noqa: S314  made here
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "--paper: #ffffff" in text
    assert "prefers-color-scheme: dark" in text
    words = root.attrib["aria-label"]
    assert "far, onnxruntime: top-1 88.0 %" in words or "far in onnxruntime, 0.90" in words
    assert "vit-edge near" in words
    assert "gone" not in words


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        (["avx2", "avx512_vnni"], "VNNI"),
        (["avx2", "avx_vnni"], "VNNI"),
        (["avx2"], "AVX2"),
        (["asimd"], "Arm"),
        ([], "other"),
    ],
)
def test_a_machine_is_of_the_kind_that_its_integer_instructions_say(flags: list[str], kind: str) -> None:
    assert record.kind_of(flags) == kind


def test_results_of_both_kinds_stay_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    older = result() | {"rows": []}
    older["machine"] = {"flags": ["avx2"]}
    path.write_text(json.dumps(record.joined(path, older)), encoding="utf-8")
    both = record.joined(path, result())
    assert list(both) == ["AVX2", "VNNI"]
    assert both["AVX2"]["rows"] == []
    path.write_text(json.dumps(both), encoding="utf-8")
    assert record.joined(path, older)["VNNI"] == json.loads(json.dumps(result()))


@pytest.mark.parametrize("text", ["[]", "{", '{"VNNI": {}}', '{"rows": []}'])
def test_a_file_of_something_else_is_never_written_over(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="holds no results of this tool"):
        record.joined(path, result())


def test_the_page_is_made_anew_between_its_marks_alone() -> None:
    made = page(f"before\n{BEGIN}\nold\n{END}\nafter\n", {"VNNI": result()})
    assert made.startswith(f"before\n{BEGIN}\n")
    assert made.endswith(f"\n{END}\nafter\n")
    assert "old" not in made
    assert "images/peers-vnni-scatter.svg" in made
    assert page(made, {"VNNI": result()}) == made
    with pytest.raises(ValueError, match="unpack"):
        page("no marks", {})


def test_the_page_and_its_charts_are_of_the_results() -> None:
    results = record.read(RESULTS)
    text = PAGE.read_text(encoding="utf-8")
    assert page(text, results) == text
    for name in drawn(results):
        ElementTree.fromstring((IMAGES / name).read_text(encoding="utf-8"))  # noqa: S314  made here
