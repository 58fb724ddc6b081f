"""Maps at the size of the image: interpolation as Pillow does it, the crop put back, masks and colours."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vit_edge import Segmentation, UsageError
from vit_edge.runtime.image.preprocess import seen_box, to_pixels
from vit_edge.runtime.predict.segmentation import UNSEEN
from vit_edge.spec import Interpolation, PreprocessSpec, ResizeMode


def of(
    maps: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> Segmentation:
    whole = (0.0, 0.0, float(size[1]), float(size[0]))
    return Segmentation({"m": maps.astype(np.float32)}, size, box or whole, None)


def some(channels: int, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((channels, rows, columns)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 40), st.integers(0, 40))
def test_an_enlarged_map_is_that_of_pillow(
    rows: int, columns: int, more_rows: int, more_columns: int
) -> None:
    maps, size = some(1, rows, columns), (rows + more_rows, columns + more_columns)
    expected = Image.fromarray(maps[0]).resize(size[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_allclose(of(maps, size).scores(), np.asarray(expected), atol=1e-5, rtol=0)


def test_what_the_crop_cut_off_is_not_seen() -> None:
    maps = some(2, 4, 4)
    found = of(maps, (8, 16), (4.0, 0.0, 12.0, 8.0))
    assert np.isnan(found.scores()).any(axis=0).tolist() == [True] * 4 + [False] * 8 + [True] * 4
    mask = found.mask()
    assert (mask[:, :4] == UNSEEN).all()
    assert (mask[:, 12:] == UNSEEN).all()
    np.testing.assert_array_equal(mask[:, 4:12], of(maps, (8, 8)).mask())


def test_a_mask_is_the_largest_channel_of_the_enlarged_scores() -> None:
    found = of(some(5, 4, 3), (13, 11))
    stacked = np.stack([found.scores(channel) for channel in range(5)])
    np.testing.assert_array_equal(found.mask(), stacked.argmax(axis=0))
    assert found.mask().dtype == np.int32


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_a_mask_of_one_channel_is_what_lies_above_the_threshold(threshold: float) -> None:
    found = of(some(1, 4, 3), (4, 3))
    np.testing.assert_array_equal(found.mask(threshold), (found.map[0] > threshold).astype(np.int32))


@pytest.mark.parametrize(
    ("mode", "resize", "size", "box"),
    [
        (ResizeMode.EXACT, (8, 8), (20, 10), (0, 0, 10, 20)),
        (ResizeMode.SHORT_SIDE, (8, 8), (16, 32), (8, 0, 24, 16)),
        (ResizeMode.SHORT_SIDE, (10, 10), (20, 20), (2, 2, 18, 18)),
        (ResizeMode.NONE, (8, 8), (4, 8), (0, -2, 8, 6)),
    ],
    ids=["stretched", "centre", "margin", "padded"],
)
def test_the_box_is_what_the_model_saw(
    mode: ResizeMode, resize: tuple[int, int], size: tuple[int, int], box: tuple[float, ...]
) -> None:
    spec = PreprocessSpec(8, 8, mode, resize, Interpolation.BILINEAR, (0.5,) * 3, (0.5,) * 3)
    assert seen_box(size[1], size[0], spec) == pytest.approx(box)
    # a bright spot of the image lies, in the map, where it lies in the image
    image = np.zeros((*size, 3), np.uint8)
    row, column = size[0] // 2, size[1] // 2
    image[row - 1 : row + 1, column - 1 : column + 1] = 255
    pixels = to_pixels(Image.fromarray(image), spec)
    scores = of(pixels[..., 0][None], size, seen_box(size[1], size[0], spec)).scores()
    peak = np.unravel_index(int(np.nanargmax(scores)), size)
    assert np.abs(np.asarray(peak) - (row - 0.5, column - 0.5)).max() <= 1.5


@pytest.mark.parametrize("channels", [1, 3])
def test_a_drawing_has_the_images_size_and_leaves_what_is_not_seen(channels: int) -> None:
    image = Image.fromarray(np.full((8, 16, 3), 100, np.uint8))
    drawn = np.asarray(of(some(channels, 4, 4), (8, 16), (4.0, 0.0, 12.0, 8.0)).drawn(image))
    assert drawn.shape == (8, 16, 3)
    assert (drawn[:, :4] == 100).all()
    assert (drawn[:, 4:12] != 100).any()


def test_what_there_is_not_is_refused() -> None:
    found = of(some(2, 4, 4), (8, 8))
    with pytest.raises(UsageError, match="channel must be 0 to 1, got 2"):
        found.scores(2)
    with pytest.raises(UsageError, match="the image has 4 x 8 pixels"):
        found.drawn(Image.new("RGB", (8, 4)))
