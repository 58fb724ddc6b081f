"""`detect` and `segment` over folders: the rows of one image each, gone on with, cut, joined and drawn."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.place_models import NAMES, detector, segmenter
from vit_edge import Detector, Segmenter
from vit_edge.cli import main
from vit_edge.runtime.job.masks import LEFT_OUT, mask_name, write_mask
from vit_edge.runtime.predict.segmentation import UNSEEN

IMAGES = 7
COMMANDS = pytest.mark.parametrize("command", ["detect", "segment"])
Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images of several sizes in two levels, one that is none, and both models."""
    made, random = tmp_path_factory.mktemp("places"), np.random.default_rng(7)
    (made / "in" / "below").mkdir(parents=True)
    for index in range(IMAGES):
        pixels = random.integers(0, 256, (20 + index, 31, 3), dtype=np.uint8)
        pixels[..., index % 3] //= 3
        Image.fromarray(pixels).save(made / "in" / ("below" if index % 2 else ".") / f"{index}.png")
    (made / "in" / "bad.png").write_bytes(b"no image")
    detector(made / "detect.onnx")
    segmenter(made / "segment.onnx")
    return made


def job(folder: Path, command: str, out: Path, *more: str) -> int:
    """The command over all images; 2 as one of them is none."""
    model = folder / f"{command}.onnx"
    return main([command, str(model), "--dir", str(folder / "in"), "-o", str(out), "--quiet", *more])


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def refused(words: Sequence[object], capsys: Output) -> str:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    err = capsys.readouterr().err
    assert err.startswith("vit-edge: error: ")
    assert err.count("\n") == 1
    return err


def test_each_image_has_the_boxes_that_the_detector_gives(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.jsonl"
    assert job(folder, "detect", out, "--threshold", "0.3") == 2
    found, detect = rows(out), Detector(folder / "detect.onnx")
    assert len(found) == IMAGES + 1
    shown = 0
    for row in found:
        if row["error"] is not None:
            assert (Path(row["image"]).name, row["objects"]) == ("bad.png", [])
            continue
        expected = detect(row["image"], threshold=0.3)
        told = [
            {"label": each.label, "score": each.score, "index": each.index, "box": list(each.box)}
            for each in expected
        ]
        assert row["objects"] == told
        shown += len(told)
    assert shown > IMAGES


def test_each_image_has_the_mask_that_the_segmenter_gives(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.jsonl"
    assert job(folder, "segment", out) == 2
    segment = Segmenter(folder / "segment.onnx")
    for row in rows(out):
        if row["error"] is not None:
            assert (row["mask"], row["classes"]) == (None, [])
            continue
        mask = segment(row["image"]).mask()
        with Image.open(tmp_path / row["mask"]) as picture:
            np.testing.assert_array_equal(np.asarray(picture), mask)
        assert (row["height"], row["width"]) == mask.shape
        assert row["seen"] == 1.0
        counts = {name: float((mask == place).mean()) for place, name in enumerate(NAMES)}
        assert {each["label"]: each["share"] for each in row["classes"]} == pytest.approx(
            {name: share for name, share in counts.items() if share}
        )
    assert len(list((tmp_path / "found.masks").iterdir())) == IMAGES


@COMMANDS
def test_a_job_goes_on_where_it_ended_and_ends_alike(folder: Path, tmp_path: Path, command: str) -> None:
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    job(folder, command, whole)
    job(folder, command, cut)
    lines = cut.read_bytes().splitlines(keepends=True)
    cut.write_bytes(b"".join(lines[:3]) + lines[3][:10])  # killed within the fourth row
    job(folder, command, cut)
    assert cut.read_bytes().replace(b"cut.masks", b"whole.masks") == whole.read_bytes()


@COMMANDS
def test_processes_and_shards_give_the_same_rows(folder: Path, tmp_path: Path, command: str) -> None:
    job(folder, command, tmp_path / "whole.jsonl")
    job(folder, command, tmp_path / "two.jsonl", "--workers", "2")
    parts = [tmp_path / f"{index}.jsonl" for index in (1, 2)]
    for index, part in enumerate(parts, 1):
        job(folder, command, part, "--shard", f"{index}/2")
    merged = tmp_path / "merged.jsonl"
    assert main(["merge", *map(str, parts), "-o", str(merged)]) == 0

    def known(path: Path) -> list[dict[str, Any]]:
        told = [{**row, "mask": Path(row.get("mask") or "x").name} for row in rows(path)]
        return sorted(told, key=lambda row: str(row["image"]))

    assert known(tmp_path / "two.jsonl") == known(tmp_path / "whole.jsonl") == known(merged)
    if command == "segment":
        assert all((tmp_path / row["mask"]).exists() for row in rows(merged) if row["mask"])


@COMMANDS
def test_csv_holds_lists_as_json_in_a_cell(folder: Path, tmp_path: Path, command: str) -> None:
    job(folder, command, tmp_path / "r.csv")
    job(folder, command, tmp_path / "r.jsonl")
    with (tmp_path / "r.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == IMAGES + 1
    for row, line in zip(found, rows(tmp_path / "r.jsonl"), strict=True):
        assert (row["image"], row["error"]) == (line["image"], line["error"] or "")
        key = "objects" if command == "detect" else "classes"
        assert (json.loads(row[key]) if row[key] else []) == line[key]
        if command == "segment" and not row["error"]:
            assert (row["mask"], int(row["height"])) == (line["mask"], line["height"])


@COMMANDS
def test_parquet_holds_what_the_lines_do(folder: Path, tmp_path: Path, command: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    job(folder, command, tmp_path / "r.parquet")
    found = parquet.read_table(tmp_path / "r.parquet").to_pylist()
    assert found == rows(tmp_path / "r.parquet.jsonl")


@COMMANDS
def test_another_threshold_is_another_job(folder: Path, tmp_path: Path, command: str, capsys: Output) -> None:
    job(folder, command, tmp_path / "r.jsonl")
    words = [command, folder / f"{command}.onnx", "--dir", folder / "in", "-o", tmp_path / "r.jsonl"]
    assert "holds the results of another job (settings" in refused([*words, "--threshold", "0.7"], capsys)


@COMMANDS
@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["-o", "r.txt"], "its name must end in .jsonl or .csv or .parquet"),
        (["-o", "r.jsonl", "--json"], "--json and rows in r.jsonl are two ways to answer"),
        (["-o", "r.jsonl", "--draw", "x.png"], "--draw and rows in r.jsonl are two ways to answer"),
        (["--shard", "1/2"], "--shard is of a job with results in a file"),
        (["-o", "r.jsonl", "--workers", "0"], "--workers must be at least 1, got 0"),
    ],
)
def test_what_no_job_can_be_is_refused(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    more: list[str],
    says: str,
    capsys: Output,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [command, folder / f"{command}.onnx", "--dir", folder / "in", *more]
    assert says in refused(words, capsys)


def test_models_of_another_kind_and_places_that_differ_are_refused(
    folder: Path, tmp_path: Path, capsys: Output
) -> None:
    out, data = tmp_path / "r.jsonl", ["--dir", folder / "in"]
    assert "open it with vit_edge.Detector" in refused(
        ["segment", folder / "detect.onnx", *data, "-o", out], capsys
    )
    assert "no detection head" in refused(["detect", folder / "segment.onnx", *data, "-o", out], capsys)
    assert "no classes" in refused(["classify", folder / "segment.onnx", *data, "-o", out], capsys)
    assert not out.exists()
    job(folder, "segment", out)
    (tmp_path / "elsewhere").mkdir()
    words = ["merge", out, "-o", tmp_path / "elsewhere" / "all.jsonl"]
    assert "names its masks from its own folder" in refused(words, capsys)


def test_without_a_file_of_results_a_folder_is_told_image_by_image(folder: Path, capsys: Output) -> None:
    words = ["detect", str(folder / "detect.onnx"), "--dir", str(folder / "in"), "--json"]
    assert main(words) == 2
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == IMAGES + 1


@pytest.mark.parametrize(("largest", "left_out"), [(254, LEFT_OUT), (255, 65535)])
def test_a_mask_has_as_many_bits_as_its_classes_need(tmp_path: Path, largest: int, left_out: int) -> None:
    mask = np.asarray([[0, largest], [UNSEEN, 3]], np.int32)
    write_mask(tmp_path / "m.png", mask)
    with Image.open(tmp_path / "m.png") as picture:
        found = np.asarray(picture).astype(np.int64)
    np.testing.assert_array_equal(found, [[0, largest], [left_out, 3]])


def test_masks_of_images_of_one_name_in_two_folders_are_two() -> None:
    names = {mask_name(name) for name in ("a/1.png", "b/1.png", "a/1.jpg", "a/\udcff.png", "a/ß?.png")}
    assert len(names) == 5
    assert all(name.isascii() and "/" not in name and "?" not in name for name in names)
