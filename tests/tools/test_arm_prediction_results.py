"""The recorded predictions for Arm: of one piece with what they rest on, and with targets and pages."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tools.arm_prediction.__main__ import judged
from tools.arm_prediction.a64 import InstructionClass
from tools.arm_prediction.public import MEASURED
from vit_edge.targets import list_targets, load_target

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "models" / "results" / "arm_prediction.json"


@pytest.fixture(scope="module")
def results() -> Mapping[str, Any]:
    read: Mapping[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return read


def test_the_recorded_validation_is_what_its_counts_and_the_published_figures_give(
    results: Mapping[str, Any],
) -> None:
    recorded = results["validation"]
    again = judged(recorded["counts"])
    assert len(recorded["measurements"]) == len(MEASURED)
    assert again["measurements"] == recorded["measurements"]
    assert again["efficiency"] == recorded["efficiency"]
    assert again["band"] == recorded["band"]
    single = [each["deviation"] for each in recorded["measurements"] if each["threads"] == 1]
    furthest = max(abs(math.log(deviation)) for deviation in single)
    assert math.log(recorded["band"]["threads 1"]["ratio"]) == pytest.approx(furthest, abs=2e-3)


def test_what_targets_predict_is_what_the_results_file_says(results: Mapping[str, Any]) -> None:
    told = [each for name in list_targets() for each in load_target(name).predicted]
    assert told
    for each in told:
        (board,) = (name for name in results["ViT-Tiny"]["boards"] if each.device.startswith(name))
        found = results["ViT-Tiny"]["boards"][board]
        assert found["predicted_ratio"] == {"ratio": each.ratio, "least": each.least, "most": each.most}
        assert f"{found['gigahertz']} GHz" in each.device
        assert each.threads == results["ViT-Tiny"]["threads"] == 1
        assert str(RESULTS.relative_to(ROOT)) in each.how


def test_the_recorded_ratio_is_that_of_the_recorded_cycles(results: Mapping[str, Any]) -> None:
    factor = results["validation"]["band"]["threads 1"]["ratio"]
    for board in results["ViT-Tiny"]["boards"].values():
        ratio = board["int8"]["million_cycles"] / board["float"]["million_cycles"]
        said = board["predicted_ratio"]
        assert said["ratio"] == pytest.approx(ratio, abs=0.006)
        assert said["least"] == pytest.approx(ratio / factor, abs=0.006)
        assert said["most"] == pytest.approx(ratio * factor, abs=0.006)
    pi_4, pi_5 = (results["ViT-Tiny"]["boards"][name] for name in ("Raspberry Pi 4", "Raspberry Pi 5"))
    dot = InstructionClass.DOT.value
    assert dot not in pi_4["int8"]["million_instructions_by_class"]  # Cortex-A72 has none
    assert pi_5["int8"]["million_instructions_by_class"][dot] > 0


def rows_of(page: str, start: str) -> list[list[str]]:
    """Cells of the table whose head begins so."""
    lines = page.partition(f"\n{start}")[2].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_says_what_the_results_file_says(results: Mapping[str, Any]) -> None:
    page = (ROOT / "docs" / "targets.md").read_text(encoding="utf-8")
    told = rows_of(page, "| board, predicted |")
    assert {row[0] for row in told} == set(results["ViT-Tiny"]["boards"])
    for board, ratio, between, float_ms, int8_ms in told:
        found = results["ViT-Tiny"]["boards"][board]
        said, ms = found["predicted_ratio"], found["predicted_ms"]
        assert (ratio, between) == (str(said["ratio"]), f"{said['least']} to {said['most']}")
        assert (float_ms, int8_ms) == (f"{ms['float']['latency']} ms", f"{ms['int8']['latency']} ms")
    recorded = results["validation"]
    single = [each for each in recorded["measurements"] if each["threads"] == 1]
    assert rows_of(page, "| published, one thread |") == [
        [each["board"], each["network"], f"{each['measured_ratio']:.3f}", f"{each['predicted_ratio']:.3f}"]
        for each in single
    ]
    (unstated,) = (each for each in recorded["measurements"] if each["threads"] is None)
    assert f"{unstated['measured_ratio']} measured and {unstated['predicted_ratio']} predicted" in page
    bands = recorded["band"]
    assert (
        f"a factor of {bands['threads 1']['ratio']}; that of a latency is {bands['threads 1']['latency']}"
        in page
    )
    assert f"by up to {bands['threads 4']['ratio']}" in page
    for core, share in recorded["efficiency"].items():
        assert f"{core[-3:].upper()}: {share:.3f}" in page
    for board, words in (
        ("Raspberry Pi 5", "on the A76: 38 % to QGemm, 15 %"),
        ("Raspberry Pi 4", "QGemm takes 43 %"),
    ):
        spent = results["ViT-Tiny"]["boards"][board]["int8"]
        assert (
            f"{100 * spent['million_cycles_by_operator']['QGemm'] / spent['million_cycles']:.0f} %" in words
        )
        assert words in page
