"""The easy model: how cells are cut out and shared out, and what is written of a tiny ViT that is tuned."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification

from tools import train_cells as tool
from tools.bccd import CORNERS, LABELS, read_photos
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.runtime.evaluate.dataset import read_images

SIDE = 32
HEIGHT, WIDTH = 60, 80


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eight photos with two red cells, a white one and a platelet each, told apart by their colours."""
    folder = tmp_path / "photos"
    (folder / "images").mkdir(parents=True)
    cells = {
        "RBC": [(10, 20, 30, 44), (40, 30, 60, 50)],
        "WBC": [(2, 2, 12, 12)],
        "Platelets": [(70, 0, 80, 6)],
    }
    rows = []
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 60, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        for channel, label in enumerate(LABELS):
            for left, top, right, bottom in cells[label]:
                pixels[top:bottom, left:right, channel] += 180
                rows.append([f"b{number}.png", label, left, top, right, bottom])
        Image.fromarray(pixels).save(folder / "images" / f"b{number}.png")
    with (folder / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", *CORNERS], *rows])
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An untrained ViT of seven classes."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        image_size=SIDE,
        patch_size=8,
        num_labels=7,
    )
    ViTForImageClassification(config).save_pretrained(tmp_path / "source")
    prepared: dict[str, Any] = {
        "size": {"height": SIDE, "width": SIDE},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    prepared |= {"image_processor_type": "ViTImageProcessor", "do_resize": True, "resample": 3}
    (tmp_path / "source" / tool.PREPROCESSOR).write_text(json.dumps(prepared), encoding="utf-8")
    return tmp_path / "source"


def words(source: Path, photos: Path, out: Path, *more: str) -> list[str]:
    return ["--source", str(source), "--photos", str(photos), "--out", str(out), *more]


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        ((20, 20, 36, 30), (18, 15, 38, 35)),  # 1.25 times 16 pixels
        ((0, 0, 16, 16), (0, 0, 20, 20)),  # moved in
        ((70, 50, 80, 60), (68, 48, 80, 60)),
        ((0, 0, 80, 60), (10, 0, 70, 60)),  # shrunk to the photo's shorter side
    ],
)
def test_a_crop_is_a_square_around_its_cell_within_the_photo(
    corners: tuple[int, int, int, int], expected: tuple[int, int, int, int]
) -> None:
    assert tool.square(corners, (HEIGHT, WIDTH)) == expected


def test_every_class_has_as_many_cells_as_the_rarest_and_the_same_each_time(photos: Path) -> None:
    found = tool.balanced(read_photos(photos))
    labels = [photo.labels[place] for photo, place in found]
    assert np.bincount(labels).tolist() == [8, 8, 8]
    assert len({(photo.path, place) for photo, place in found}) == 24
    again = tool.balanced(read_photos(photos))
    assert [(photo.path, place) for photo, place in again] == [(photo.path, place) for photo, place in found]


def test_a_model_is_tuned_and_its_folders_are_as_the_other_tools_read_them(
    photos: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert tool.main(words(source, photos, out, "--train", "6", "--epochs", "1")) == 0
    assert "18 cells trained on" in capsys.readouterr().out
    model = resolve(str(out / tool.NAME), SourceOptions())
    assert model.labels == LABELS
    assert (model.preprocess.height, model.preprocess.width) == (SIDE, SIDE)
    judged = read_images(out / "evaluation", model.labels)
    assert judged.targets is not None
    assert np.bincount(judged.targets).tolist() == [2, 2, 2]
    calibration = read_images(out / "calibration")
    assert len(calibration) == 18
    photo_of = [{path.name.split("_")[0] for path in each.paths} for each in (judged, calibration)]
    assert len(photo_of[0]) == 2
    assert not photo_of[0] & photo_of[1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (["--source", "/nowhere"], "/nowhere is no Hugging Face folder of a ViT"),
        (["--photos", "/nowhere"], "/nowhere holds no images/ and boxes.csv"),
        (["--train", "8"], "0 photos have no RBC"),
        (["--train", "0"], "0 photos have no RBC"),
        (["--train", "2"], "6 cells to train on, fewer than 16"),
        (["--epochs", "0"], "--epochs 0: give 1 or more"),
        (["--out", "."], ". exists already"),
    ],
)
def test_what_cannot_be_tuned_is_refused_in_one_line_and_nothing_is_written(
    photos: Path,
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    reason: str,
) -> None:
    assert tool.main(words(source, photos, tmp_path / "out", "--train", "6", *change)) == 2
    said = capsys.readouterr().err
    assert said.startswith("train_cells: ")
    assert reason in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_other_normalisation_is_refused(
    photos: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = source / tool.PREPROCESSOR
    place.write_text(place.read_text().replace("0.5", "0.4"), encoding="utf-8")
    assert tool.main(words(source, photos, tmp_path / "out")) == 2
    assert "mean and standard deviation are 0.5" in capsys.readouterr().err
