"""What the comparison with everybody's quantizers says: its file, its tables, its charts and its page."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from tools.peers import record
from tools.peers.charts import CHANGED, MOST_DB, NOISE, USELESS, bars, scatter
from tools.peers.contrast import NEAR, contrast, shared
from tools.peers.environments import Installed
from tools.peers.page import BEGIN, EASY, HARD, PAGE, drawn, page
from tools.peers.table import environments, markdown
from tools.written_page import END, IMAGES
from vit_edge.errors import UsageError


def row(name: str, agreement: float, ratio: float, engine: str = "onnxruntime 1") -> dict[str, Any]:
    return {
        "name": name,
        "size_mb": 6.0,
        "agreement": agreement,
        "logit_sqnr_db": None if name == "float" else agreement / 5,
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
        "model": {"name": "vit", "sha256": "of its weights"},
        "limit_s": 600,
        "calibration": {"images": 128},
        "evaluation": {"images": 500},
        "latency": {"rounds": 40, "load_average_before": [1.04, 0, 0], "load_average_after": [2.0, 0, 0]},
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


def test_a_file_that_no_engine_runs_has_the_seconds_that_it_took() -> None:
    absent = {"name": "broken", "note": "no engine runs it", "made": {"cpu_seconds": 491.8}}
    last = markdown(result() | {"rows": [*result()["rows"], absent]}).splitlines()[-1]
    assert last == "| broken | `no engine runs it` (after 492 s of the processor) |"


def test_environments_are_listed_with_their_weight_or_their_reason() -> None:
    lines = environments(result()["environments"]).splitlines()
    assert lines[2] == "| peer | `peer==1` | not there: `no / such package` |  |"
    assert lines[3] == "| onnxruntime | `onnxruntime==1` | 200 MB | 0.5 s |"


@pytest.mark.parametrize(
    "draw", [scatter, lambda found: scatter(found, NOISE), bars], ids=["changed", "noise", "bars"]
)
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


@pytest.mark.parametrize("flags", [["avx2"], ["avx2", "avx512_vnni"]], ids=["another kind", "the same kind"])
def test_results_of_another_model_are_never_written_over(tmp_path: Path, flags: list[str]) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(record.joined(path, result())), encoding="utf-8")
    other = result() | {"model": {"name": "other", "sha256": "of other weights"}, "machine": {"flags": flags}}
    with pytest.raises(UsageError, match=r"another model \(vit\): name another file"):
        record.joined(path, other)


def test_what_a_later_run_leaves_out_stays_and_what_it_adds_says_how_it_was_timed(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(record.joined(path, result())), encoding="utf-8")
    later = result() | {"latency": {"rounds": 7}, "environments": {"new": {}}}
    later["rows"] = [
        row("float", 100.0, 1.0) | {"min_ms": 9.0},
        row("gone", 98.0, 0.7),
        {"name": "far", "note": record.SKIPPED},
    ]
    found = record.joined(path, later)["VNNI"]
    assert [each["name"] for each in found["rows"]] == ["float", "far", "vit-edge near", "gone"]
    assert "min_ms" not in found["rows"][0]
    assert found["rows"][1] == result()["rows"][1]
    assert found["rows"][3][record.APART] == {"rounds": 7}
    assert found["latency"] == result()["latency"]
    assert set(found["environments"]) == {"peer", "onnxruntime", "new"}
    made = page(f"{BEGIN}\n{END}", {HARD: {"VNNI": result() | {"rows": found["rows"]}}})
    assert "Timed in a run of their own, beside float: gone." in made


@pytest.mark.parametrize("changed", ["calibration", "evaluation"])
def test_what_was_measured_on_other_images_is_replaced(tmp_path: Path, changed: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(record.joined(path, result())), encoding="utf-8")
    later = result() | {changed: {"images": 7}, "rows": result()["rows"][:2]}
    assert record.joined(path, later)["VNNI"] == later


@pytest.mark.parametrize("text", ["[]", "{", '{"VNNI": {}}', '{"rows": []}'])
def test_a_file_of_something_else_is_never_written_over(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="holds no results of this tool"):
        record.joined(path, result())


def test_the_page_is_made_anew_between_its_marks_alone() -> None:
    results = {HARD: {"VNNI": result(), "AVX2": result()}, EASY: {"VNNI": result()}}
    made = page(f"before\n{BEGIN}\nold\n{END}\nafter\n", results)
    assert made.startswith(f"before\n{BEGIN}\n")
    assert made.endswith(f"\n{END}\nafter\n")
    assert "old" not in made
    for kind in ("vnni", "avx2"):
        assert f"images/peers-{kind}-scatter.svg" in made
    assert "images/peers-cells-vnni-scatter.svg" in made
    assert "load went from 1.0 to 2.0" in made
    assert "all together took 1 minutes" in made  # three rows of 12.4 s
    assert "Together 0.2 GB." in made
    assert page(made, results) == made
    with pytest.raises(ValueError, match="unpack"):
        page("no marks", results)


def test_the_page_compares_both_models_on_the_kinds_of_cpu_that_both_have() -> None:
    text = f"{BEGIN}\n{END}"
    both = page(text, {HARD: {"VNNI": result(), "AVX2": result()}, EASY: {"VNNI": result()}})
    assert [line for line in both.splitlines() if line.startswith("## What")] == [
        "## What the easy model shows, with VNNI"
    ]
    assert "## What" not in page(text, {HARD: {"AVX2": result()}, EASY: {"VNNI": result()}})


def test_environments_of_several_results_are_listed_once_as_they_were_first() -> None:
    later = result()
    later["environments"] = {"onnxruntime": vars(Installed(("later==1",), "later", None, 1.0, 0.5, {}))}
    made = page(f"{BEGIN}\n{END}", {HARD: {"VNNI": result()}, EASY: {"VNNI": later}})
    assert made.count("| environment | asked for |") == 1
    assert "`onnxruntime==1`" in made
    assert "later==1" not in made


def test_the_contrast_groups_what_has_figures_for_both_models_by_the_hard_one() -> None:
    hard, easy = result(), result()
    hard["rows"].append(row("only here", 40.0, 1.0))
    hard["rows"].append(row("between", 90.0, 1.0))
    easy["rows"].append(row("between", 99.5, 1.0))
    assert [one["name"] for one, _ in shared(hard["rows"], easy["rows"])] == [
        "vit-edge near",
        "between",
        "far",
    ]
    lines = contrast(hard, easy).splitlines()
    assert lines[0].startswith("Of 3 files in their engines")
    assert lines[1] == ""
    assert lines[2].startswith("* 1 that keep 100.0 % of the hard model keep 100.0 %")
    assert "keep 90.0 % of the hard model keep 99.5 % of the easy one, 1 of them 99 % or more" in lines[3]
    assert lines[3].endswith("signal to noise of the logits 18.0 dB and 19.9 dB")
    assert "keep 0.0 % of the easy one, 0 of them 99 % or more" in lines[4]


def test_the_contrast_leaves_out_groups_of_nobody() -> None:
    hard = result()
    hard["rows"][1]["agreement"] = 90.0
    assert len(contrast(hard, result()).splitlines()) == 4


def test_what_the_page_concludes_is_what_was_measured() -> None:
    """That few classes hide what a careful quantizer loses, and not what collapses."""
    hard, easy = (record.read(subject.file)["VNNI"]["rows"] for subject in (HARD, EASY))
    for one, other in shared(hard, easy):
        assert (one["agreement"] >= USELESS) == (other["agreement"] >= NEAR), one["name"]


@pytest.mark.parametrize(
    ("agreement", "decibels", "changed", "noise"),
    [(100.0, 121.3, 0.1, MOST_DB), (0.0, -2.7, 100.0, -2.7), (98.0, None, 2.0, MOST_DB)],
)
def test_what_is_drawn_stays_within_the_axis(
    agreement: float, decibels: float | None, changed: float, noise: float
) -> None:
    drawn_row = {"agreement": agreement, "logit_sqnr_db": decibels}
    for measure, value in ((CHANGED, changed), (NOISE, noise)):
        assert measure.value(drawn_row) == value
        assert min(measure.limits) <= value <= max(measure.limits)


def test_the_page_and_its_charts_are_of_the_results() -> None:
    results = {subject: record.read(subject.file) for subject in (HARD, EASY)}
    text = PAGE.read_text(encoding="utf-8")
    assert page(text, results) == text
    for subject, found in results.items():
        for name in drawn(subject, found):
            ElementTree.fromstring((IMAGES / name).read_text(encoding="utf-8"))  # noqa: S314  made here
