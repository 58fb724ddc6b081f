"""Canvases with digits: what is said of them is what is on them, and the same for ever."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.canvases import MASK_LABELS, MOST_DIGITS, SIDE, Canvas, canvases, write
from tools.digits import LABELS, split

PARTS = split()


@pytest.fixture(scope="module")
def some() -> list[Canvas]:
    return list(itertools.islice(canvases(PARTS["calibration"], 3), 60))


def test_every_box_lies_tightly_around_the_ink_of_its_digit(some: list[Canvas]) -> None:
    for each in some:
        inked = np.zeros((SIDE, SIDE), bool)
        for label, (left, top, right, bottom) in zip(each.labels, each.corners.astype(int), strict=True):
            window = each.mask[top:bottom, left:right] == 1 + label
            assert all(edge.any() for edge in (window[0], window[-1], window[:, 0], window[:, -1]))
            inked[top:bottom, left:right] |= window
        np.testing.assert_array_equal(inked, each.mask > 0)


def test_a_canvas_has_one_to_four_digits_brighter_than_the_ground(some: list[Canvas]) -> None:
    counts = [len(each.labels) for each in some]
    assert min(counts) >= 1
    assert max(counts) == MOST_DIGITS
    ink = np.concatenate([each.pixels[each.mask > 0].mean(axis=1) for each in some])
    ground = np.concatenate([each.pixels[each.mask == 0].mean(axis=1) for each in some])
    assert ink.mean() > ground.mean() + 60


def test_a_seed_stands_for_the_same_canvases(some: list[Canvas]) -> None:
    again = list(itertools.islice(canvases(PARTS["calibration"], 3), 4))
    for one, other in zip(some, again, strict=False):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        np.testing.assert_array_equal(one.mask, other.mask)
    other = next(canvases(PARTS["calibration"], 4))
    assert other.pixels.tobytes() != some[0].pixels.tobytes()


def test_what_is_written_is_what_the_commands_read(tmp_path: Path) -> None:
    write(tmp_path, 2, 3)
    assert len(list((tmp_path / "calibration").iterdir())) == 2
    truth = json.loads((tmp_path / "boxes.json").read_text())
    painted = list(itertools.islice(canvases(PARTS["test"]), 3))
    for number, (image, made) in enumerate(zip(truth["images"], painted, strict=True)):
        np.testing.assert_array_equal(Image.open(tmp_path / "test" / image["file_name"]), made.pixels)
        np.testing.assert_array_equal(Image.open(tmp_path / "masks" / image["file_name"]), made.mask)
        own = [each for each in truth["annotations"] if each["image_id"] == number]
        assert [each["category_id"] for each in own] == made.labels.tolist()
        boxes = np.asarray([each["bbox"] for each in own])
        np.testing.assert_array_equal(boxes[:, :2], made.corners[:, :2])
        np.testing.assert_array_equal(boxes[:, :2] + boxes[:, 2:], made.corners[:, 2:])
    assert (tmp_path / "boxes.txt").read_text().split() == list(LABELS)
    assert (tmp_path / "masks.txt").read_text().split() == list(MASK_LABELS)
