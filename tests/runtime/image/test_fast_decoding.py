"""Fast decoding is exact up to fivefold shrinking, within a tolerance beyond, and shifts nothing."""

import dataclasses
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vit_edge.errors import ImageError
from vit_edge.runtime.image.decode import open_image
from vit_edge.runtime.image.limits import DecodeLimits
from vit_edge.runtime.image.preprocess import Decoding, load_pixels
from vit_edge.spec import Interpolation, PreprocessSpec, ResizeMode

HALF = (0.5, 0.5, 0.5)
SPEC = PreprocessSpec(16, 16, ResizeMode.SHORT_SIDE, (18, 18), Interpolation.BICUBIC, HALF, HALF)


def encoded(image: Image.Image, form: str, orientation: int = 1, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, form, exif=exif, **options)
    return buffer.getvalue()


def scene(width: int, height: int) -> Image.Image:
    """Smooth waves at several scales and fine noise, with no symmetry."""
    rows, columns = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(3).integers(-20, 20, (height, width, 3))
    waves = np.stack([np.sin(rows / 25), np.cos(columns / 40), np.sin((rows + 2 * columns) / 60)], -1)
    return Image.fromarray(np.clip(128 + 90 * waves + noise, 0, 255).astype(np.uint8))


def ramp(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards: a shift shows wherever it goes."""
    columns, rows = np.linspace(0, 255, width), np.linspace(0, 255, height)
    red, green = np.meshgrid(columns, rows)
    return Image.fromarray(np.stack([red, green, np.full_like(red, 60)], -1).astype(np.uint8))


def difference(data: Any, spec: PreprocessSpec = SPEC) -> np.ndarray:
    exact, fast = (load_pixels(data, spec, decoding=each).astype(int) for each in Decoding)
    return np.asarray(np.abs(exact - fast))


STEPPED = (Interpolation.NEAREST, Interpolation.BOX)
SMOOTH = tuple(each for each in Interpolation if each not in STEPPED)
sides = st.integers(1, 89)
forms = st.sampled_from(["JPEG", "PNG", "WEBP"])


@given(sides, sides, forms, st.integers(1, 8), st.sampled_from(list(Interpolation)))
@settings(deadline=None)
def test_an_image_shrunk_less_than_fivefold_is_exact(
    width: int, height: int, form: str, orientation: int, interpolation: Interpolation
) -> None:
    spec = dataclasses.replace(SPEC, interpolation=interpolation)
    assert difference(encoded(scene(width, height), form, orientation), spec).max() == 0


@given(
    st.integers(90, 400),
    st.integers(90, 400),
    st.integers(1, 8),
    st.sampled_from(SMOOTH),
    st.integers(1, 24),
    st.integers(1, 24),
)
@settings(deadline=None)
def test_a_large_image_cropped_anyhow_is_within_two_grey_levels_on_average(
    width: int, height: int, orientation: int, interpolation: Interpolation, crop_height: int, crop_width: int
) -> None:
    spec = dataclasses.replace(SPEC, interpolation=interpolation, height=crop_height, width=crop_width)
    found = difference(encoded(scene(width, height), "PNG", orientation), spec)
    assert found.mean() <= 2
    assert found.max() <= 16


@given(sides, sides, forms, st.integers(1, 8), st.integers(1, 100), st.integers(1, 100))
@settings(deadline=None)
def test_a_crop_without_a_resize_is_exact_with_its_black_border(
    width: int, height: int, form: str, orientation: int, crop_height: int, crop_width: int
) -> None:
    spec = dataclasses.replace(SPEC, resize_mode=ResizeMode.NONE, height=crop_height, width=crop_width)
    assert difference(encoded(scene(width, height), form, orientation), spec).max() == 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(40, 25), (500, 300)])
@pytest.mark.parametrize(("height", "width"), [(33, 10), (10, 40), (33, 34)])
def test_a_crop_beyond_the_resized_image_has_the_same_black_border(
    orientation: int, size: tuple[int, int], height: int, width: int
) -> None:
    spec = dataclasses.replace(SPEC, height=height, width=width)
    data = encoded(scene(*size), "PNG", orientation)
    exact, fast = (load_pixels(data, spec, decoding=each).astype(int) for each in Decoding)
    np.testing.assert_array_equal((exact == 0).all(-1), (fast == 0).all(-1))
    assert (exact == 0).all(-1).any()
    assert np.abs(exact - fast).mean() <= 2


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", [ResizeMode.NONE, ResizeMode.SHORT_SIDE])
def test_where_no_pixel_is_averaged_away_a_large_image_is_exact_too(form: str, mode: ResizeMode) -> None:
    for interpolation in STEPPED:
        spec = dataclasses.replace(SPEC, resize_mode=mode, interpolation=interpolation)
        assert difference(encoded(scene(500, 700), form), spec).max() == 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("size", [(601, 803), (1601, 999)])
def test_a_large_image_is_within_two_grey_levels_on_average(
    form: str, orientation: int, size: tuple[int, int]
) -> None:
    found = difference(encoded(scene(*size), form, orientation))
    assert 0 < found.max() <= 12
    assert found.mean() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(601, 803), (1001, 999), (125, 1511)])
@pytest.mark.parametrize(
    ("mode", "resize"),
    [
        (ResizeMode.SHORT_SIDE, (18, 18)),
        (ResizeMode.EXACT, (16, 16)),
        (ResizeMode.EXACT, (16, 40)),
        (ResizeMode.EXACT, (40, 16)),
    ],
)
def test_nothing_is_shifted_or_turned_wrongly(
    form: str, orientation: int, size: tuple[int, int], mode: ResizeMode, resize: tuple[int, int]
) -> None:
    data = encoded(ramp(*size), form, orientation, **({"quality": 100} if form == "JPEG" else {}))
    found = difference(data, dataclasses.replace(SPEC, resize_mode=mode, resize=resize))
    assert found[..., :2].max() <= 2, "half a pixel of the reduced image would be 2 to 7 levels"


@pytest.mark.parametrize(
    ("size", "reduced"), [((107, 300), (107, 300)), ((108, 300), (54, 150)), ((433, 601), (55, 76))]
)
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_a_jpeg_is_decoded_at_the_fraction_that_suffices(
    size: tuple[int, int], reduced: tuple[int, int], options: dict[str, Any]
) -> None:
    opened = open_image(encoded(scene(*size), "JPEG", **options))
    found = opened.decode(at_least=opened.size if size[0] < 108 else (54, 54))
    assert found.image.size == reduced
    assert found.size == size
    fraction = size[0] / found.box[2]
    assert found.box == (0, 0, size[0] / fraction, size[1] / fraction)


@pytest.mark.parametrize(
    ("orientation", "upright", "wanted", "reduced"),
    [
        (1, (800, 200), (200, 50), (200, 50)),
        (6, (200, 800), (50, 200), (200, 50)),
        (6, (200, 800), (200, 50), (800, 200)),  # as many pixels across as there are
    ],
)
def test_what_suffices_is_asked_of_the_upright_picture(
    orientation: int, upright: tuple[int, int], wanted: tuple[int, int], reduced: tuple[int, int]
) -> None:
    opened = open_image(encoded(scene(800, 200), "JPEG", orientation))
    assert opened.upright_size == upright
    found = opened.decode(at_least=wanted)
    assert found.image.size == reduced
    assert found.upright_size == upright


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours_than_rgb_are_reduced_as_well(mode: str) -> None:
    found = difference(encoded(scene(900, 700).convert(mode), "JPEG"))
    assert 0 < found.max() <= 12


def test_a_jpeg_of_several_pictures_gives_the_first() -> None:
    buffer = io.BytesIO()
    scene(900, 700).save(buffer, "MPO", save_all=True, append_images=[ramp(900, 700)])
    alone = encoded(scene(900, 700), "JPEG")
    for decoding in Decoding:
        several, single = (load_pixels(data, SPEC, decoding=decoding) for data in (buffer.getvalue(), alone))
        np.testing.assert_array_equal(several, single)


def test_an_image_that_the_caller_opened_stays_as_it_is() -> None:
    opened = Image.open(io.BytesIO(encoded(scene(900, 700), "JPEG", orientation=6)))
    load_pixels(opened, SPEC, decoding=Decoding.FAST)
    assert opened.size == (900, 700)


def test_limits_are_those_of_the_whole_picture() -> None:
    data = encoded(scene(900, 700), "JPEG")
    with pytest.raises(ImageError, match="900 x 700"):
        load_pixels(data, SPEC, DecodeLimits(max_pixels=100_000), Decoding.FAST)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(form: str, keep: float) -> None:
    data = encoded(scene(900, 700), form)
    with pytest.raises(ImageError, match=r"damaged|no JPEG"):
        load_pixels(data[: int(len(data) * keep)], SPEC, decoding=Decoding.FAST)


@pytest.mark.parametrize("decoding", list(Decoding))
def test_a_needle_that_would_explode_when_resized_is_refused(decoding: Decoding) -> None:
    with pytest.raises(ImageError, match="crop it first"):
        load_pixels(Image.new("RGB", (1, 5_000_000)), SPEC, decoding=decoding)
