"""The device preprocessing against transformers' own image processors, for every type that resolves.

The reference runs on the config as it stands; ours is what `from_processor` reads in it.
"""

from typing import Any

import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vit_edge.host.sources.preprocessing import from_processor
from vit_edge.runtime.image.preprocess import normalize, to_pixels

FAMILIES = ("ViT", "DeiT", "Beit", "CLIP", "Bit", "Siglip", "ConvNext")
CROP = {"do_center_crop": True, "crop_size": {"height": 24, "width": 20}}
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT, exact": ("ViT", {"size": {"height": 24, "width": 20}}),
    "ViT, exact and crop": ("ViT", {"size": {"height": 29, "width": 31}, **CROP}),
    "ViT, short side": ("ViT", {"size": {"shortest_edge": 27}, **CROP, "resample": 3}),
    "ViT, short side below the crop": ("ViT", {"size": {"shortest_edge": 9}, **CROP, "resample": 3}),
    "ViT, one number for all channels": ("ViT", {"size": 24, "image_mean": 0.4, "image_std": 0.2}),
    "DeiT, integers": ("DeiT", {"size": 27, "crop_size": 24}),
    "DeiT, crop only": ("DeiT", {"do_resize": False, "crop_size": 24}),
    "DeiT, no normalisation": ("DeiT", {"size": 26, "crop_size": 23, "do_normalize": False}),
    "Beit, crop": ("Beit", {"size": 27, "do_center_crop": True, "crop_size": 24, "resample": 2}),
    "CLIP": ("CLIP", {"size": 25, "crop_size": 24}),
    "CLIP, a null flag is off": (
        "CLIP",
        {"size": {"height": 26, "width": 23}, "do_center_crop": None, "crop_size": None, "do_pad": None},
    ),
    "CLIP, not scaled": ("CLIP", {"size": 26, "crop_size": 23, "do_rescale": None}),
    "Bit, box filter": ("Bit", {"size": {"shortest_edge": 28}, "crop_size": 24, "resample": 4}),
    "Siglip": ("Siglip", {"size": {"height": 24, "width": 24}, "resample": 1}),
    "ConvNext": ("ConvNext", {"size": {"shortest_edge": 24}, "crop_pct": 0.875}),
    "ConvNext, another share": ("ConvNext", {"size": 24, "crop_pct": 0.9, "resample": 2}),
}
sides = st.integers(1, 90)


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(1000 * width + height).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def theirs(family: str, config: dict[str, Any]) -> Any:
    return getattr(transformers, f"{family}ImageProcessorPil")(**config)


def assert_same_pixels(family: str, config: dict[str, Any], image: Image.Image) -> None:
    spec = from_processor({"image_processor_type": f"{family}ImageProcessor", **config}, "file")
    pixels = to_pixels(image, spec)[None]
    plain = theirs(family, config)(image, do_rescale=False, do_normalize=False, return_tensors="np")
    np.testing.assert_array_equal(pixels.transpose(0, 3, 1, 2), plain["pixel_values"])
    whole = theirs(family, config)(image, return_tensors="np")["pixel_values"]
    assert np.abs(normalize(pixels, spec) - whole).max() <= 2e-6


@pytest.mark.parametrize("recipe", RECIPES)
@given(width=sides, height=sides)
@settings(max_examples=25, deadline=None)  # the first example imports the processor
def test_every_processor_is_matched_bit_for_bit(recipe: str, width: int, height: int) -> None:
    assert_same_pixels(*RECIPES[recipe], noise(width, height))


@pytest.mark.parametrize("side", [25, 26, 27, 28])
@pytest.mark.parametrize("extra", range(4), ids=lambda extra: f"{extra} mod 4")
def test_every_margin_modulo_four_is_halved_as_transformers_halves_it(side: int, extra: int) -> None:
    config = {"size": {"shortest_edge": side}, "crop_size": 24}
    for size in ((side, 40 + extra), (40 + extra, side)):
        assert_same_pixels("CLIP", config, noise(*size))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "size",
    [(500, 375), (331, 500), (1, 1), (3, 200), (2000, 20), (2500, 1667)],
    ids=lambda size: f"{size[0]}x{size[1]}",
)
def test_a_silent_config_is_matched_for_tiny_long_and_large_images(
    family: str, size: tuple[int, int]
) -> None:
    assert_same_pixels(family, {}, noise(*size))
