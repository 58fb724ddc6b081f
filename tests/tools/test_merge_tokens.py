"""The curve of accuracy against latency where tokens merge, on the embedded model."""

import json
from pathlib import Path

import pytest

from tools.digits import make_folders
from tools.merge_tokens import TITLES, main, table

ROOT = Path(__file__).resolve().parents[2]
DIGITS = str(ROOT / "models" / "digits_vit")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    make_folders(folder)
    return folder


def words(images: Path, out: Path, *counts: str) -> list[str]:
    found = ["--source", DIGITS, "--calib", str(images / "calibration"), "--data", str(images / "test")]
    return [*found, "--preset", "static", "--seconds", "0", "--counts", *counts, "-o", str(out)]


def test_every_file_is_judged_against_the_float_model_with_every_token(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(images, tmp_path / "curve.json", "2")) == 0
    found = json.loads((tmp_path / "curve.json").read_text())
    rows = {(row["form"], row["count"]): row for row in found["files"]}
    assert list(rows) == [("float32", 0), ("INT8", 0), ("float32", 2), ("INT8", 2)]
    assert rows["float32", 0]["agreement"] == 100.0
    assert rows["float32", 0]["sqnr_db"] is None
    whole, merged = (rows["float32", count]["tokens"] for count in (0, 2))
    assert merged < whole
    assert 50.0 < rows["float32", 2]["agreement"] < 100.0 or rows["float32", 2]["sqnr_db"] is not None
    assert rows["INT8", 2]["against_own"]["median"] > 0
    assert found["data"]["images"] > 100
    assert len(found["timing"]["load_average"]) == 6
    printed = capsys.readouterr().out.strip()
    assert printed == table(found)
    assert len(printed.splitlines()) == 2 + 4
    assert all(line.count("|") == len(TITLES) + 1 for line in printed.splitlines())


@pytest.mark.parametrize(
    ("counts", "says"),
    [(["40"], "--merge-tokens 40 is more than"), (["-1"], "--merge-tokens must be at least 0, got -1")],
)
def test_what_cannot_merge_is_refused_before_any_work(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], counts: list[str], says: str
) -> None:
    assert main(words(images, tmp_path / "curve.json", *counts)) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "curve.json").exists()
