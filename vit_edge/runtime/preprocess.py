"""From a decoded image to the model's input, bit-identical with Pillow-based pipelines.

The steps are pure functions of a PreprocessSpec. Resizing runs on uint8 in Pillow, as in torchvision's
transforms on Pillow images, timm's evaluation transform and the Pillow backend of Hugging Face processors.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from vit_edge.errors import ImageError, UsageError
from vit_edge.runtime.decode import DEFAULT_LIMITS, DecodeLimits, ImageSource, decode, source_name
from vit_edge.spec import PreprocessSpec, ResizeMode


def load_pixels(
    source: ImageSource, spec: PreprocessSpec, limits: DecodeLimits = DEFAULT_LIMITS
) -> npt.NDArray[np.uint8]:
    """Decode, resize and crop one image.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        ImageError: the image cannot be decoded or resized within the limits; the message names it.
    """
    image = decode(source, limits)
    try:
        return to_pixels(image, spec)
    except ImageError as error:
        raise ImageError(f"{source_name(source)}: {error}") from None


def to_pixels(image: Image.Image, spec: PreprocessSpec) -> npt.NDArray[np.uint8]:
    """Resize and centre-crop an RGB image.

    Args:
        image: a Pillow image of mode RGB.
        spec: the recipe.

    Returns:
        uint8 (spec.height, spec.width, 3), RGB; black where the crop is larger than the resized image.

    Raises:
        ImageError: the image is so long and thin that its resized form would not fit the pixel limit.
    """
    if image.mode != "RGB":
        raise ImageError(f"an image of mode {image.mode} was given where RGB is needed; use decode first")
    width, height = resized_size(image.width, image.height, spec)
    if width * height > DEFAULT_LIMITS.max_pixels:
        raise ImageError(
            f"an image of {image.width} x {image.height} pixels would be resized to {width} x {height}, "
            f"more than {DEFAULT_LIMITS.max_pixels} pixels; crop it first"
        )
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling[spec.interpolation.name])
    left, top = _offset(width, spec.width), _offset(height, spec.height)
    # Pillow fills what lies outside the image with black.
    return np.array(image.crop((left, top, left + spec.width, top + spec.height)))


def normalize(pixels: npt.NDArray[np.uint8], spec: PreprocessSpec) -> npt.NDArray[np.float32]:
    """`(pixel / 255 - mean) / std` per channel, computed in float64 and rounded once to float32.

    Args:
        pixels: uint8 (N, H, W, 3), RGB.
        spec: holds mean and std of values in [0, 1].

    Returns:
        float32 (N, 3, H, W).

    Raises:
        UsageError: the pixels have another dtype or shape.
    """
    require_pixels(pixels)
    values = np.arange(256, dtype=np.float64)[:, None] / 255
    table = ((values - np.array(spec.mean)) / np.array(spec.std)).astype(np.float32)
    result = np.empty((pixels.shape[0], 3, *pixels.shape[1:3]), np.float32)
    for channel in range(3):
        result[:, channel] = table[:, channel][pixels[..., channel]]
    return result


def require_pixels(pixels: npt.NDArray[np.uint8]) -> None:
    """Refuse an array that is not uint8 (N, H, W, 3).

    Raises:
        UsageError: the array has another dtype or shape.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise UsageError(
            f"pixels must be uint8 of shape (N, height, width, 3), got {pixels.dtype} {pixels.shape}"
        )


def resized_size(width: int, height: int, spec: PreprocessSpec) -> tuple[int, int]:
    """Size after the resize, in pixels (width, height); the long side is truncated as in torchvision."""
    if spec.resize_mode is ResizeMode.NONE:
        return width, height
    if spec.resize_mode is ResizeMode.EXACT:
        return spec.resize[1], spec.resize[0]
    side = spec.resize[0]
    if width <= height:
        return side, int(side * height / width)
    return int(side * width / height), side


def _offset(size: int, crop: int) -> int:
    """Where a centre crop starts, negative where it pads; rounds half to even, as torchvision does."""
    if crop > size:
        return -((crop - size) // 2)
    return round((size - crop) / 2)
