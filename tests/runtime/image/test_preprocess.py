"""Resize, crop and normalise are those of Pillow pipelines, bit for bit where they are on uint8."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vit_edge.errors import ImageError, UsageError
from vit_edge.runtime.image.preprocess import Decoding, load_pixels, normalize, resized_size, to_pixels
from vit_edge.spec import CropRule, Interpolation, PreprocessSpec, ResizeMode

SPEC = PreprocessSpec(
    height=16,
    width=16,
    resize_mode=ResizeMode.SHORT_SIDE,
    resize=(18, 18),
    interpolation=Interpolation.BICUBIC,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)

sides = st.integers(1, 90)


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def transformers_center_crop(image: Image.Image, height: int, width: int, fast: bool) -> Image.Image:
    """Written after transformers 5: `center_crop` of its torchvision- and of its Pillow-backed processors."""
    left, top = max(width - image.width, 0), max(height - image.height, 0)
    first = (left // 2, top // 2) if fast else (math.ceil(left / 2), math.ceil(top / 2))
    canvas = Image.new("RGB", (max(width, image.width), max(height, image.height)))
    canvas.paste(image, first)
    corner = int((canvas.width - width) / 2.0), int((canvas.height - height) / 2.0)
    return canvas.crop((*corner, corner[0] + width, corner[1] + height))


def torchvision_center_crop(image: Image.Image, height: int, width: int) -> Image.Image:
    """Written after torchvision.transforms.functional.center_crop on Pillow images."""
    pad_left = max((width - image.width) // 2, 0)
    pad_top = max((height - image.height) // 2, 0)
    canvas = Image.new("RGB", (max(width, image.width), max(height, image.height)))
    canvas.paste(image, (pad_left, pad_top))
    left = int(round((canvas.width - width) / 2.0))  # noqa: RUF046  as it stands there
    top = int(round((canvas.height - height) / 2.0))  # noqa: RUF046
    return canvas.crop((left, top, left + width, top + height))


@given(sides, sides, st.sampled_from(list(Interpolation)), st.integers(1, 40), st.integers(1, 40))
def test_an_exact_resize_is_pillows(
    width: int, height: int, interpolation: Interpolation, new_height: int, new_width: int
) -> None:
    spec = dataclasses.replace(
        SPEC,
        height=new_height,
        width=new_width,
        resize=(new_height, new_width),
        resize_mode=ResizeMode.EXACT,
        interpolation=interpolation,
    )
    image = noise(width, height)
    expected = image.resize((new_width, new_height), Image.Resampling[interpolation.name])
    np.testing.assert_array_equal(to_pixels(image, spec), np.asarray(expected))


@given(sides, sides, st.integers(1, 40), st.integers(1, 48), st.integers(1, 48))
def test_short_side_and_crop_are_torchvisions(
    width: int, height: int, side: int, crop_height: int, crop_width: int
) -> None:
    spec = dataclasses.replace(SPEC, height=crop_height, width=crop_width, resize=(side, side))
    image = noise(width, height)
    short, long = min(width, height), max(width, height)
    new_long = int(side * long / short)
    size = (side, new_long) if width <= height else (new_long, side)
    resized = image.resize(size, Image.Resampling.BICUBIC)
    expected = torchvision_center_crop(resized, crop_height, crop_width)
    np.testing.assert_array_equal(to_pixels(image, spec), np.asarray(expected))


@given(sides, sides, st.integers(1, 48), st.integers(1, 48))
def test_without_a_resize_only_the_crop_is_taken(
    width: int, height: int, crop_height: int, crop_width: int
) -> None:
    spec = dataclasses.replace(SPEC, height=crop_height, width=crop_width, resize_mode=ResizeMode.NONE)
    image = noise(width, height)
    expected = np.asarray(torchvision_center_crop(image, crop_height, crop_width))
    np.testing.assert_array_equal(to_pixels(image, spec), expected)


@given(sides, sides, st.integers(1, 48), st.integers(1, 48), st.booleans())
def test_a_crop_by_transformers_rule_is_transformers(
    width: int, height: int, crop_height: int, crop_width: int, fast: bool
) -> None:
    rule = CropRule.TRANSFORMERS_FAST if fast else CropRule.TRANSFORMERS
    spec = dataclasses.replace(
        SPEC, height=crop_height, width=crop_width, resize_mode=ResizeMode.NONE, crop=rule
    )
    image = noise(width, height)
    expected = np.asarray(transformers_center_crop(image, crop_height, crop_width, fast))
    np.testing.assert_array_equal(to_pixels(image, spec), expected)


@pytest.mark.parametrize(
    ("rule", "margin", "first"),
    [
        (CropRule.TORCHVISION, 1, 0),
        (CropRule.TORCHVISION, 3, 2),
        (CropRule.TORCHVISION, 5, 2),
        (CropRule.TRANSFORMERS, 3, 1),
        (CropRule.TRANSFORMERS_FAST, 3, 1),
        (CropRule.TORCHVISION, -3, -1),
        (CropRule.TRANSFORMERS, -3, -2),
        (CropRule.TRANSFORMERS_FAST, -3, -1),
    ],
)
def test_the_rules_part_at_odd_margins(rule: CropRule, margin: int, first: int) -> None:
    spec = dataclasses.replace(SPEC, height=1, width=8, resize_mode=ResizeMode.NONE, crop=rule)
    ramp = np.repeat(np.arange(1, 9 + margin, dtype=np.uint8).reshape(1, -1, 1), 3, axis=2)
    seen = to_pixels(Image.fromarray(ramp), spec)[0, :, 0]
    assert seen[max(-first, 0)] == max(first, 0) + 1
    assert not seen[: max(-first, 0)].any()


@given(sides, sides, st.integers(1, 40), st.integers(1, 40))
def test_a_covering_resize_is_timms(width: int, height: int, new_height: int, new_width: int) -> None:
    """Written after ResizeKeepRatio(longest=0) of timm/data/transforms.py."""
    spec = dataclasses.replace(SPEC, resize_mode=ResizeMode.COVER, resize=(new_height, new_width))
    ratio = min(height / new_height, width / new_width)
    assert resized_size(width, height, spec) == (round(width / ratio), round(height / ratio))


@pytest.mark.parametrize("rule", list(CropRule))
def test_fast_decoding_keeps_the_place_of_the_crop(rule: CropRule) -> None:
    """A picture of one white column: the crop of its reduction has it where the exact one has it."""
    spec = dataclasses.replace(SPEC, resize=(21, 21), crop=rule)
    values = np.zeros((21 * 8, 32 * 8, 3), np.uint8)
    values[:, 16 * 8 : 17 * 8] = 255
    exact, fast = (load_pixels(values, spec, decoding=each) for each in (Decoding.EXACT, Decoding.FAST))
    assert exact[8, :, 0].argmax() == fast[8, :, 0].argmax()


@pytest.mark.parametrize("rule", list(CropRule))
def test_a_written_recipe_keeps_its_crop_rule(rule: CropRule) -> None:
    spec = dataclasses.replace(SPEC, crop=rule)
    assert PreprocessSpec.from_json(spec.to_json()) == spec


def test_a_recipe_from_before_the_choice_means_torchvisions_rule() -> None:
    old = {key: value for key, value in SPEC.to_json().items() if key != "crop"}
    assert PreprocessSpec.from_json(old).crop is CropRule.TORCHVISION


def test_an_unknown_crop_rule_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="preprocess crop must be one of torchvision, transformers"):
        PreprocessSpec.from_json({**SPEC.to_json(), "crop": "middle"})


@pytest.mark.parametrize(
    ("size", "expected"),
    [((500, 375), (332, 249)), ((375, 500), (249, 332)), ((249, 249), (249, 249)), ((299, 300), (249, 249))],
)
def test_the_long_side_is_truncated_and_not_rounded(size: tuple[int, int], expected: tuple[int, int]) -> None:
    spec = dataclasses.replace(SPEC, resize=(249, 249))
    assert resized_size(*size, spec) == expected


def test_a_crop_larger_than_the_image_is_padded_with_black_one_more_on_the_right() -> None:
    spec = dataclasses.replace(SPEC, height=4, width=5, resize_mode=ResizeMode.NONE)
    pixels = to_pixels(Image.new("RGB", (2, 1), "white"), spec)
    assert np.argwhere(pixels[..., 0] == 255).tolist() == [[1, 1], [1, 2]]


def test_the_image_is_left_as_it_was() -> None:
    image = noise(30, 20)
    before = image.tobytes()
    for spec in (SPEC, dataclasses.replace(SPEC, resize_mode=ResizeMode.NONE, height=20, width=30)):
        pixels = to_pixels(image, spec)
        with pytest.raises(ValueError, match="read-only"):
            pixels[:] = 0
    assert image.tobytes() == before


@pytest.mark.parametrize("size", [(1, 5_000_000), (5_000_000, 1)])
def test_a_needle_that_would_explode_when_resized_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="crop it first"):
        to_pixels(Image.new("RGB", size), SPEC)


def test_load_pixels_names_the_image_it_refuses() -> None:
    with pytest.raises(ImageError, match=r"^the given image: .*crop it first"):
        load_pixels(Image.new("RGB", (1, 5_000_000)), SPEC)


def test_another_mode_than_rgb_is_refused() -> None:
    with pytest.raises(ImageError, match="mode L"):
        to_pixels(Image.new("L", (30, 30)), SPEC)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    ],
    ids=["ImageNet", "half", "none"],
)
def test_normalize_is_within_1e_6_of_the_formula_for_every_pixel_value(
    mean: tuple[float, float, float], std: tuple[float, float, float]
) -> None:
    pixels = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), 3, axis=3)
    result = normalize(pixels, dataclasses.replace(SPEC, mean=mean, std=std))
    assert result.shape == (1, 3, 16, 16)
    assert result.dtype == np.float32
    exact = ((pixels / 255 - np.array(mean)) / np.array(std)).transpose(0, 3, 1, 2)
    assert np.abs(result - exact).max() <= 3e-7
    if mean[0] in (0, 0.5):
        np.testing.assert_array_equal(result, exact.astype(np.float32))
    scaled = pixels.astype(np.float32) / np.float32(255)
    stepwise = ((scaled - np.array(mean, np.float32)) / np.array(std, np.float32)).transpose(0, 3, 1, 2)
    assert np.abs(result - stepwise).max() <= 1e-6


def test_normalize_takes_batches_and_keeps_images_apart() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), np.uint8)
    together = normalize(pixels, SPEC)
    assert together.shape == (3, 3, 5, 7)
    for index in range(3):
        np.testing.assert_array_equal(together[index : index + 1], normalize(pixels[index : index + 1], SPEC))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((1, 3, 8, 8), np.uint8),
        np.zeros((1, 8, 8, 3), np.float32),
    ],
    ids=["no batch axis", "channels first", "float"],
)
def test_normalize_refuses_another_layout(pixels: np.ndarray) -> None:
    with pytest.raises(UsageError, match="uint8 of shape"):
        normalize(pixels, SPEC)
