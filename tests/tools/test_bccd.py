"""The detector of blood cells: photos and boxes as they are read, encoder and head as one file, results."""

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from tests.host.dense_models import GRID, dense_onnx
from tests.host.vit_forms import DIM, IMAGE
from tools import bccd as tool
from tools.cut_encoder import cut_encoder

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "bccd"
HEIGHT, WIDTH = 60, 80
TOKENS = 1 + GRID * GRID


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve photos with two cells each, and a mark without area on the first."""
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    rows = [["b0.png", "WBC", 5, 5, 5, 5]]
    for number in range(12):
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"b{number}.png")
        rows += [[f"b{number}.png", "RBC", 10, 20, 30, 50], [f"b{number}.png", "Platelets", 60, 0, 80, 12]]
    with (tmp_path / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", *tool.CORNERS], *rows])
    return tmp_path


def test_photos_are_read_with_their_cells_and_marks_without_area_left_out(folder: Path) -> None:
    photos = tool.read_photos(folder)
    assert len(photos) == 12
    for photo in photos:
        assert photo.size == (HEIGHT, WIDTH)
        assert photo.labels.tolist() == [0, 2]
        assert photo.corners.tolist() == [[10, 20, 30, 50], [60, 0, 80, 12]]


@pytest.mark.parametrize("mirrored", [(False, False), (False, True), (True, False), (True, True)])
def test_boxes_of_a_mirror_image_lie_where_the_cells_do(mirrored: tuple[bool, bool], folder: Path) -> None:
    photo = tool.read_photos(folder)[0]
    shown = np.zeros((HEIGHT, WIDTH), int)
    for number, (left, top, right, bottom) in enumerate(photo.corners.astype(int), 1):
        shown[top:bottom, left:right] = number
    down, across = mirrored
    shown = shown[:: -1 if down else 1, :: -1 if across else 1]
    objects = photo.objects(mirrored)
    for number, corners in enumerate(objects.corners.numpy(), 1):
        left, top, right, bottom = np.rint(corners * [WIDTH, HEIGHT, WIDTH, HEIGHT]).astype(int)
        assert (shown[top:bottom, left:right] == number).all()
        assert (shown == number).sum() == (bottom - top) * (right - left)


def test_photos_are_divided_the_same_way_each_time_and_none_twice(folder: Path) -> None:
    photos = tool.read_photos(folder)
    train, test = tool.divided(photos, 8)
    assert (len(train), len(test)) == (8, 4)
    assert {each.path for each in (*train, *test)} == {each.path for each in photos}
    assert [each.path for each in tool.divided(photos, 8)[0]] == [each.path for each in train]


def test_truth_is_written_of_the_photos_that_judge(folder: Path, tmp_path: Path) -> None:
    train, test = tool.divided(tool.read_photos(folder), 8)
    tool.write_folders(tmp_path / "work", train, test)
    truth = json.loads((tmp_path / "work" / "boxes.json").read_text())
    names = {path.name for path in (tmp_path / "work" / "test").iterdir()}
    assert {image["file_name"] for image in truth["images"]} == names == {each.path.name for each in test}
    assert [each["bbox"] for each in truth["annotations"][:2]] == [[10, 20, 20, 30], [60, 0, 20, 12]]
    assert len(list((tmp_path / "work" / "train").iterdir())) == 8


def test_encoder_and_head_become_one_file_that_gives_what_both_gave(folder: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.onnx"
    given.write_bytes(dense_onnx("decoder").SerializeToString())
    tokens = "/norm/Add_1_output_0"  # as torch's exporter calls what the last norm gives
    train, _ = tool.divided(tool.read_photos(folder), 8)
    encoder = cut_encoder(given, tokens, (IMAGE, IMAGE))
    seen = np.stack(list(tool.features(encoder, train, (IMAGE, IMAGE))))
    assert seen.shape == (8, len(tool.MIRRORED), TOKENS, DIM)
    head = tool.train_head(seen, train, (GRID, GRID), 3)
    whole = tool.joined(encoder, head, tokens, tmp_path)
    pixels = np.random.default_rng(1).standard_normal((2, 3, IMAGE, IMAGE), dtype=np.float32)

    def run(model: onnx.ModelProto) -> list[np.ndarray]:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        found: list[np.ndarray] = session.run(None, {session.get_inputs()[0].name: pixels})
        return found

    (between,) = run(encoder)
    with torch.no_grad():
        expected = head(torch.from_numpy(between))
    for one, other in zip(run(whole), expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-5)
    assert [output.name for output in whole.graph.output] == list(tool.OUTPUTS)


def test_the_results_are_of_the_split_that_the_tool_makes_and_within_a_third_of_a_point() -> None:
    found = json.loads(tool.RESULTS.read_text())
    assert found["photos"] == {"train": tool.TRAIN, "test": 280 - tool.TRAIN}
    assert found["input"] == list(tool.SIZE)
    assert found["steps"] == tool.STEPS
    first = found["compare"]["truth"][0]
    assert first["measure"] == "map_50_95"
    assert first["drop"] == pytest.approx(first["score_float"] - first["score_quant"])
    assert first["drop"] <= 0.3
    assert found["size_mb"]["int8"] < 0.3 * found["size_mb"]["float"]


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="needs ../shared/data/bccd: photos of blood cells")
def test_the_real_photos_are_read_whole() -> None:
    photos = tool.read_photos(PHOTOS)
    assert len(photos) == 280
    assert sum(len(photo.labels) for photo in photos) >= 3790  # of 3,798 marks
    for photo in photos:
        assert (photo.corners[:, 2:] <= np.asarray(photo.size[::-1])).all()
