"""Boxes on the pixels of an image: classes and probabilities, the crop put back, what lies outside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vit_edge import Detection, UsageError
from vit_edge.runtime.image.preprocess import seen_box
from vit_edge.runtime.predict.detection import Corners, Place, detections, drawn
from vit_edge.spec import Interpolation, PreprocessSpec, ResizeMode

SIZE = (40, 80)  # height, width
WHOLE = Place(SIZE, (0.0, 0.0, 80.0, 40.0))
SURE = [[8.0, 0.0, 0.0]]  # of class 0 of two


def of(
    boxes: list[list[float]], logits: list[list[float]], place: Place = WHOLE, threshold: float = 0.5
) -> tuple[Detection, ...]:
    return detections(
        np.asarray(logits, np.float32), np.asarray(boxes, np.float32), place, ("cell", "platelet"), threshold
    )


def test_the_likeliest_class_is_given_but_never_nothing() -> None:
    boxes = [[0.5, 0.5, 0.2, 0.2]] * 3
    found = of(boxes, [[0.0, 1.0, 4.0], [1.0, 3.0, 0.0], [4.0, 0.0, 0.0]])
    assert [(each.label, each.index) for each in found] == [("cell", 0), ("platelet", 1)]
    expected = [np.exp(4) / (np.exp(4) + 2), np.exp(3) / (np.exp(3) + np.exp(1) + 1)]
    assert [each.score for each in found] == pytest.approx(expected, abs=1e-6)


def test_the_threshold_is_the_least_probability() -> None:
    boxes, logits = [[0.5, 0.5, 0.2, 0.2]], [[1.0, 1.0, 1.0]]
    assert len(of(boxes, logits, threshold=0.333)) == 1
    assert of(boxes, logits, threshold=0.334) == ()


def test_a_box_is_in_pixels_and_cut_to_the_image() -> None:
    found = of([[0.25, 0.5, 0.5, 0.5], [0.9, 0.1, 0.4, 0.6]], SURE * 2)
    assert [each.box for each in found] == [
        pytest.approx((0, 10, 40, 30), abs=1e-4),
        pytest.approx((56, 0, 80, 16), abs=1e-4),
    ]


@pytest.mark.parametrize("box", [[1.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.0, 0.2], [0.5, 0.5, 0.2, -0.1]])
def test_what_has_no_area_on_the_image_is_no_object(box: list[float]) -> None:
    assert of([box], SURE, threshold=0.0) == ()


@settings(max_examples=50, deadline=None)
@given(st.integers(20, 90), st.integers(20, 90), st.sampled_from(ResizeMode), st.floats(0.7, 1.0))
def test_a_box_around_all_that_is_seen_is_what_the_crop_left(
    height: int, width: int, mode: ResizeMode, share: float
) -> None:
    side = 24
    resize = {ResizeMode.NONE: (side, side), ResizeMode.EXACT: (side, side)}.get(
        mode, (round(side / share),) * 2
    )
    if mode is ResizeMode.NONE:
        height = width = side
    spec = PreprocessSpec(side, side, mode, resize, Interpolation.BILINEAR, (0.5,) * 3, (0.5,) * 3)
    seen = seen_box(width, height, spec)
    (found,) = of([[0.5, 0.5, 1.0, 1.0]], SURE, Place((height, width), seen))
    clipped: Corners = (max(seen[0], 0), max(seen[1], 0), min(seen[2], width), min(seen[3], height))
    assert found.box == pytest.approx(clipped, abs=1e-3)


def test_boxes_are_drawn_on_a_copy() -> None:
    image = Image.new("RGB", SIZE[::-1])
    made = drawn(image, of([[0.25, 0.5, 0.5, 0.5]], SURE))
    assert made.size == image.size
    assert made.getpixel((20, 30)) != (0, 0, 0)
    assert image.getextrema() == ((0, 0),) * 3


def test_boxes_of_another_image_are_not_drawn() -> None:
    with pytest.raises(UsageError, match="beyond the 20 x 20 pixels"):
        drawn(Image.new("RGB", (20, 20)), of([[0.5, 0.5, 1.0, 1.0]], SURE))
