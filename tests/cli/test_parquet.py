"""Results as Parquet: the rows of the lines, complete or absent, gone on with after a kill."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vit_edge.cli import main

pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'vit-edge[parquet]'")

ROOT = Path(__file__).resolve().parents[2]
TINY = str(ROOT / "tests" / "data" / "dynamic.onnx")  # classes ant, bee and cat

Output = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images, and one that is none."""
    random = np.random.default_rng(3)
    place = tmp_path / "in"
    place.mkdir()
    for index in range(6):
        Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(place / f"{index}.png")
    (place / "bad.png").write_bytes(b"no image")
    return place


def classify(*words: str | Path) -> int:
    return main(["classify", TINY, *map(str, words)])


def read(path: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_rows_are_those_of_the_lines(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    assert classify("--dir", folder, "-o", out, "--top", "2") == 2  # for the image that is none
    assert classify("--dir", folder, "-o", tmp_path / "r.jsonl", "--top", "2") == 2
    rows = read(out)
    assert rows == lines(tmp_path / "r.jsonl") == lines(tmp_path / "r.parquet.jsonl")
    assert sum(row["error"] is not None for row in rows) == 1
    assert {len(row["predictions"]) for row in rows if row["error"] is None} == {2}


def test_the_columns_have_types(folder: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    classify("--dir", folder, "-o", tmp_path / "r.parquet")
    schema = parquet.read_schema(tmp_path / "r.parquet")
    assert [str(schema.field(name).type) for name in ("image", "error")] == ["string", "string"]
    answer = schema.field("predictions").type.value_type
    assert [(each.name, str(each.type)) for each in answer] == [
        ("label", "string"),
        ("score", "double"),
        ("index", "int64"),
    ]


def test_a_job_that_was_cut_off_is_gone_on_with(folder: Path, tmp_path: Path) -> None:
    out, rows = tmp_path / "r.parquet", tmp_path / "r.parquet.jsonl"
    classify("--dir", folder, "-o", out)
    expected = read(out)
    out.unlink()
    kept = rows.read_bytes().splitlines(keepends=True)[:3]
    rows.write_bytes(b"".join(kept) + b'{"image": "half')
    assert classify("--dir", folder, "-o", out) == 2
    assert sorted(read(out), key=lambda row: row["image"]) == sorted(expected, key=lambda row: row["image"])


def test_a_damaged_parquet_file_of_the_job_is_made_again(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    classify("--dir", folder, "-o", out)
    expected = read(out)
    out.write_bytes(out.read_bytes()[:40])
    classify("--dir", folder, "-o", out)
    assert read(out) == expected


def test_images_that_came_later_are_added(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    classify("--dir", folder, "-o", out)
    (folder / "late.png").write_bytes((folder / "0.png").read_bytes())
    classify("--dir", folder, "-o", out)
    assert len(read(out)) == 8


def test_shards_become_one_file(folder: Path, tmp_path: Path) -> None:
    parts = [tmp_path / f"{index}.parquet" for index in (1, 2)]
    for index, part in enumerate(parts, 1):
        classify("--dir", folder, "-o", part, "--shard", f"{index}/2")
    whole = tmp_path / "all.parquet"
    assert main(["merge", *map(str, parts), "-o", str(whole)]) == 0
    assert read(whole) == read(parts[0]) + read(parts[1])
    assert main(["merge", *map(str, parts), "-o", str(tmp_path / "all.jsonl")]) == 0
    assert lines(tmp_path / "all.jsonl") == read(whole)


def test_a_name_that_is_no_utf8_is_written_with_escapes(folder: Path, tmp_path: Path) -> None:
    try:
        Path(str(folder / "0.png")).rename(folder / "0\udcff.png")
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system takes UTF-8 only")
    classify("--dir", folder, "-o", tmp_path / "r.parquet")
    assert sum(row["image"].endswith("0\\xff.png") for row in read(tmp_path / "r.parquet")) == 1


def _without_record(out: Path) -> None:
    out.with_name(out.name + ".jsonl").unlink()


def _of_another_job(out: Path) -> None:
    record = out.with_name(out.name + ".jsonl.job")
    record.write_text(record.read_text().replace("top=5", "top=4"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_record, "exists, and no r.parquet.jsonl says what its rows are"),
        (_of_another_job, "holds the results of another job"),
    ],
)
def test_a_file_that_is_not_of_this_job_is_refused_and_left(
    folder: Path, tmp_path: Path, capsys: Output, change: Callable[[Path], None], message: str
) -> None:
    out = tmp_path / "r.parquet"
    classify("--dir", folder, "-o", out)
    before = out.read_bytes()
    change(out)
    capsys.readouterr()
    assert classify("--dir", folder, "-o", out) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert out.read_bytes() == before


@pytest.mark.parametrize("command", ["classify", "merge"])
def test_without_pyarrow_one_line_says_what_to_install(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output, command: str
) -> None:
    classify("--dir", folder, "-o", tmp_path / "r.jsonl")
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    out = tmp_path / "new.parquet"
    words = {
        "classify": ["classify", TINY, "--dir", str(folder), "-o", str(out)],
        "merge": ["merge", str(tmp_path / "r.jsonl"), "-o", str(out)],
    }
    assert main(words[command]) == 2
    assert capsys.readouterr().err == (
        "vit-edge: error: pyarrow is not installed; run: pip install 'vit-edge[parquet]'\n"
    )
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("new.")]


def test_parts_of_csv_do_not_become_parquet(folder: Path, tmp_path: Path, capsys: Output) -> None:
    classify("--dir", folder, "-o", tmp_path / "r.csv")
    capsys.readouterr()
    assert main(["merge", str(tmp_path / "r.csv"), "-o", str(tmp_path / "all.parquet")]) == 2
    assert "r.csv cannot become .jsonl" in capsys.readouterr().err
