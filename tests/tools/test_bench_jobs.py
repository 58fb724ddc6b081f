"""The measurement of folder jobs: what it runs, what it reckons from that, and the page that shows it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tools import bench_jobs
from vit_edge.errors import UsageError
from vit_edge.runtime.spread.task import Spread

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "data" / "dynamic.onnx"
RESULTS = ROOT / "models" / "results" / "jobs.json"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (30, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def test_every_way_is_run_and_the_median_kept(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(TINY), "--images", str(images), "--count", "40", "--workers", "2", "--rounds", "3"]
    assert bench_jobs.main([*words, "-o", str(tmp_path / "jobs.json")]) == 0
    found = json.loads((tmp_path / "jobs.json").read_text())
    names = list(found["ways"])
    assert names[:3] == ["one process", "one process, one thread", "2 processes"]
    for way in found["ways"].values():
        rates = [run["images_per_s"] for run in way["runs"]]
        assert len(rates) == 3
        assert way["images_per_s"] == sorted(rates)[1] > 0
        assert all(run["start_s"] > 0 for run in way["runs"])
        assert way["row_bytes"] > 100
    assert found["images"]["count"] == 40
    assert found["model"]["file"] == "dynamic.onnx"
    assert capsys.readouterr().out == bench_jobs.table(found)


def test_images_with_an_error_are_not_measured(images: Path) -> None:
    (images / "1.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match="1 of 3 images have an error; give others"):
        bench_jobs.timed(TINY, images, bench_jobs.Way("one", 1, Spread()))


def results(**rates: float) -> dict[str, Any]:
    ways = {name: {"images_per_s": rate, "row_bytes": 500.0} for name, rate in rates.items()}
    return {"ways": ways, "images": {"mean_bytes": 2e5}}


def test_hours_machines_and_bytes_follow_from_the_rates() -> None:
    lines = bench_jobs.table(results(plain=10.0, several=20.0)).splitlines()
    assert lines[2] == "| plain | 10.0 | 27.8 h | 11.6 days | 115.7 days |"
    assert lines[3] == "| several | 20.0 | 13.9 h | 5.8 days | 57.9 days |"
    assert lines[4] == "| such machines for one day | | 1 | 6 | 58 |"
    assert lines[5] == "| rows, as JSON lines | | 500 MB | 5.0 GB | 50.0 GB |"
    assert lines[6] == "| images to read | | 200.0 GB | 2.0 TB | 20.0 TB |"


@pytest.mark.parametrize(
    ("seconds", "text"), [(3600, "1.0 h"), (172_799, "48.0 h"), (172_800, "2.0 days"), (8.64e6, "100.0 days")]
)
def test_durations_change_their_unit_at_two_days(seconds: float, text: str) -> None:
    assert bench_jobs.took(seconds) == text


def test_the_page_shows_the_figures_of_record() -> None:
    assert bench_jobs.table(json.loads(RESULTS.read_text())) in (ROOT / "docs" / "jobs.md").read_text()


@pytest.mark.parametrize("words", [[], ["bundle"], ["bundle", "--images", "in"]])
def test_what_is_missing_is_asked_for(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench_jobs.main(words)
    assert "give BUNDLE, --images and -o, or --table" in capsys.readouterr().err
