"""The device preprocessing against the Pillow backend of Hugging Face image processors."""

import numpy as np
import pytest
from PIL import Image
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from vit_edge.runtime.image.preprocess import normalize, to_pixels
from vit_edge.spec import Interpolation, PreprocessSpec, ResizeMode

RESAMPLE = {
    Interpolation.BILINEAR: 2,
    Interpolation.BICUBIC: 3,
    Interpolation.LANCZOS: 1,
    Interpolation.NEAREST: 0,
}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(width + height).integers(0, 256, (height, width, 3), np.uint8)
    )


@pytest.mark.parametrize("interpolation", RESAMPLE, ids=lambda value: value.value)
@pytest.mark.parametrize("size", [(500, 375), (333, 517), (224, 224), (61, 1000), (1, 1)])
def test_an_exact_resize_equals_hugging_face(size: tuple[int, int], interpolation: Interpolation) -> None:
    image = noise(*size)
    processor = ViTImageProcessorPil(
        size={"height": 224, "width": 200}, resample=RESAMPLE[interpolation], image_mean=MEAN, image_std=STD
    )
    spec = PreprocessSpec(224, 200, ResizeMode.EXACT, (224, 200), interpolation, MEAN, STD)
    reference = processor(image, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"]
    pixels = to_pixels(image, spec)[None]
    np.testing.assert_array_equal(pixels.transpose(0, 3, 1, 2), reference)
    normalised = processor(image, return_tensors="np")["pixel_values"]
    assert np.abs(normalize(pixels, spec) - normalised).max() <= 1e-6


# An odd margin is halved differently by Hugging Face's Pillow backend and by torchvision, which we follow.
@pytest.mark.parametrize("size", [(500, 375), (331, 500), (1000, 300), (224, 224)])
def test_short_side_and_centre_crop_equal_hugging_face_where_margins_are_even(size: tuple[int, int]) -> None:
    image = noise(*size)
    processor = ViTImageProcessorPil(
        size={"shortest_edge": 248}, resample=3, do_center_crop=True, crop_size={"height": 224, "width": 224}
    )
    spec = PreprocessSpec(224, 224, ResizeMode.SHORT_SIDE, (248, 248), Interpolation.BICUBIC, MEAN, STD)
    reference = processor(image, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(to_pixels(image, spec).transpose(2, 0, 1)[None], reference)
