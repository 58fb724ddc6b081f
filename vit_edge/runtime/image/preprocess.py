"""From a decoded image to the model's input, bit-identical with Pillow-based pipelines.

The steps are pure functions of a PreprocessSpec. Resizing runs on uint8 in Pillow, as in torchvision's
transforms on Pillow images, timm's evaluation transform and the Pillow backend of Hugging Face processors.
These round the place of a centre crop differently, so the recipe says whose rule holds.
"""

import enum
import functools
import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from vit_edge.errors import ImageError, UsageError
from vit_edge.fields import member
from vit_edge.runtime.image.decode import open_image
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, DecodeLimits
from vit_edge.runtime.image.reduced import Reduced
from vit_edge.runtime.image.source import ImageSource
from vit_edge.spec import CropRule, Interpolation, PreprocessSpec, ResizeMode


class Decoding(enum.Enum):
    """How an image much larger than the model's input is brought down to it."""

    EXACT = "exact"  # bit for bit as a Pillow-based pipeline does it
    FAST = "fast"  # JPEG files decoded at a fraction, others averaged over whole pixels, before the resize


# A fast reduction leaves so many times the pixels per side that the resize is to give. 2.5 lets libjpeg
# decode a photo of 12 megapixels at a quarter for an input of 224, be it 4:3, 3:2 or 16:9; 3 would not.
_REDUCING_GAP = 2.5

# These take or leave whole pixels, so that a rounding of where one lies can take another.
_STEPPED = (Interpolation.NEAREST, Interpolation.BOX)


def load_pixels(
    source: ImageSource,
    spec: PreprocessSpec,
    limits: DecodeLimits | None = DEFAULT_LIMITS,
    decoding: Decoding | str = Decoding.EXACT,
) -> npt.NDArray[np.uint8]:
    """Decode, resize and crop one image.

    Fast decoding changes nothing in an image that the resize shrinks less than fivefold. Beyond that, over
    400 photos enlarged to 12 megapixels and reduced to a short side of 249 pixels, it changes a value by
    0.25 grey levels on average, 0.85 in the worst image and 5 at most; over the same photos at their own
    resolution reduced to 31 pixels, so with all their detail, by 0.43, 2.1 and 9. An INT8 ViT-Tiny gives the
    same top-1 for 98.5 % of the 12-megapixel photos (96.8 % with random noise of that size in the exact
    pixels); where not, the first class led by less than 0.07 in probability
    (`python -m tools.decoding_tolerance`). Nearest and box filters, which take whole pixels, are always
    exact.

    Args:
        source: a path, the bytes of a file, a binary file object, a Pillow image, or uint8 RGB (H, W, 3).
        spec: the recipe.
        limits: the formats that are taken, and bounds on pixels and on encoded bytes; None: the default.
        decoding: whether a large image may be reduced before the resize; a member, or its value.

    Returns:
        uint8 (height, width, 3), RGB, not writable.

    Raises:
        ImageError: the image cannot be decoded or resized within the limits; the message names it.
        UsageError: decoding is no way to decode.
    """
    if not isinstance(decoding, Decoding):
        decoding = decoding_of(decoding)
    exact = decoding is Decoding.EXACT or spec.interpolation in _STEPPED
    opened = open_image(source, limits)
    reduced = opened.decode(at_least=None if exact else _enough(*opened.upright_size, spec))
    try:
        if exact or not _may_reduce(*reduced.upright_size, spec):
            return to_pixels(reduced.turned(reduced.image), spec)
        return _from_reduced(reduced, spec)
    except ImageError as error:
        raise ImageError(f"{opened.name}: {error}") from None


def decoding_of(raw: object) -> Decoding:
    """A way to decode, given as itself or as its value.

    Raises:
        UsageError: it is none.
    """
    try:
        return member(Decoding, raw, "decoding")
    except ValueError as error:
        raise UsageError(str(error)) from None


def to_pixels(image: Image.Image, spec: PreprocessSpec) -> npt.NDArray[np.uint8]:
    """Resize and centre-crop an RGB image, exactly as Pillow does it.

    Args:
        image: a Pillow image of mode RGB.
        spec: the recipe.

    Returns:
        uint8 (spec.height, spec.width, 3), RGB, not writable; black where the crop is larger than the
        resized image.

    Raises:
        ImageError: the image is so long and thin that its resized form would not fit the pixel limit.
    """
    if image.mode != "RGB":
        raise ImageError(f"an image of mode {image.mode} was given where RGB is needed; use decode first")
    size = _checked_size(image.size, spec)
    if size != image.size:
        image = image.resize(size, _filter(spec))
    return _array(_cut(image, *_corner(image.size, spec), spec))


def seen_box(width: int, height: int, spec: PreprocessSpec) -> tuple[float, float, float, float]:
    """What of an image reaches the model: (left, top, right, bottom) in its pixels, beyond it where padded.

    Args:
        width: pixels of the upright image.
        height: likewise.
        spec: the recipe.
    """
    resized = resized_size(width, height, spec)
    left, top = _corner(resized, spec)
    x, y = width / resized[0], height / resized[1]
    return left * x, top * y, (left + spec.width) * x, (top + spec.height) * y


def random_pixels(count: int, size: tuple[int, int], seed: int = 0) -> npt.NDArray[np.uint8]:
    """Noise in the form of preprocessed images, for runs whose answers do not matter.

    Args:
        count: of images.
        size: pixels (height, width).
        seed: of the generator.

    Returns:
        uint8 (count, height, width, 3).
    """
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def _from_reduced(reduced: Reduced, spec: PreprocessSpec) -> npt.NDArray[np.uint8]:
    """As `to_pixels`, but averaged over whole pixels first, and without what the crop would cut off."""
    width, height = reduced.upright_size
    resized = _checked_size((width, height), spec)
    left, top = _corner(resized, spec)
    first = max(left, 0), max(top, 0)
    last = min(left + spec.width, resized[0]), min(top + spec.height, resized[1])
    x, y = width / resized[0], height / resized[1]
    box = reduced.located(first[0] * x, first[1] * y, last[0] * x, last[1] * y)
    size = reduced.along((last[0] - first[0], last[1] - first[1]))
    image = reduced.turned(reduced.image.resize(size, _filter(spec), box, _REDUCING_GAP))
    return _array(_cut(image, left - first[0], top - first[1], spec))


def _enough(width: int, height: int, spec: PreprocessSpec) -> tuple[int, int]:
    """How many pixels (width, height) of an upright image must be left for the resize."""
    wanted = resized_size(width, height, spec)
    return math.ceil(_REDUCING_GAP * wanted[0]), math.ceil(_REDUCING_GAP * wanted[1])


def _may_reduce(width: int, height: int, spec: PreprocessSpec) -> bool:
    """Whether halving a side at least leaves enough of it."""
    wanted = resized_size(width, height, spec)
    return width >= 2 * _REDUCING_GAP * wanted[0] or height >= 2 * _REDUCING_GAP * wanted[1]


def _checked_size(size: tuple[int, int], spec: PreprocessSpec) -> tuple[int, int]:
    width, height = resized_size(*size, spec)
    if width * height > DEFAULT_LIMITS.max_pixels:
        raise ImageError(
            f"an image of {size[0]} x {size[1]} pixels would be resized to {width} x {height}, "
            f"more than {DEFAULT_LIMITS.max_pixels} pixels; crop it first"
        )
    return width, height


def _filter(spec: PreprocessSpec) -> Image.Resampling:
    return Image.Resampling[spec.interpolation.name]


def _cut(image: Image.Image, left: int, top: int, spec: PreprocessSpec) -> Image.Image:
    """A part of the model's size; Pillow fills what lies outside the image with black."""
    if image.size == (spec.width, spec.height):  # so there is nothing to cut
        return image
    return image.crop((left, top, left + spec.width, top + spec.height))


def _array(image: Image.Image) -> npt.NDArray[np.uint8]:
    """As np.asarray makes it, without a detour that costs a third as much again."""
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, 3)


def normalize(pixels: npt.NDArray[np.uint8], spec: PreprocessSpec) -> npt.NDArray[np.float32]:
    """`(pixel / 255 - mean) / std` per channel.

    Computed as `(pixel - 255 mean) / (255 std)` in float32, two roundings where the formula as it stands has
    three; with a mean of a half, and of 0, the result is the float32 nearest to the exact one.

    Args:
        pixels: uint8 (N, H, W, 3), RGB.
        spec: holds mean and std of values in [0, 1].

    Returns:
        float32 (N, 3, H, W).

    Raises:
        UsageError: the pixels have another dtype or shape.
    """
    require_pixels(pixels)
    values = pixels.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    values -= _per_channel(spec.mean)
    values /= _per_channel(spec.std)
    return values


@functools.lru_cache(maxsize=16)
def _per_channel(values: tuple[float, ...]) -> npt.NDArray[np.float32]:
    """Of values in [0, 1] the same for pixels in 0 to 255, (3, 1, 1)."""
    scaled = (255 * np.array(values)).astype(np.float32).reshape(3, 1, 1)
    scaled.flags.writeable = False
    return scaled


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
    """Size after the resize, in pixels (width, height); the long side is truncated as in torchvision.

    COVER rounds both sides half to even, as timm's ResizeKeepRatio does.
    """
    if spec.resize_mode is ResizeMode.NONE:
        return width, height
    if spec.resize_mode is ResizeMode.EXACT:
        return spec.resize[1], spec.resize[0]
    if spec.resize_mode is ResizeMode.COVER:
        ratio = min(height / spec.resize[0], width / spec.resize[1])
        return round(width / ratio), round(height / ratio)
    side = spec.resize[0]
    if width <= height:
        return side, int(side * height / width)
    return int(side * width / height), side


def _corner(size: tuple[int, int], spec: PreprocessSpec) -> tuple[int, int]:
    """Where the crop of an image of `size` (width, height) starts, from its left and top."""
    return _offset(size[0], spec.width, spec.crop), _offset(size[1], spec.height, spec.crop)


def _offset(size: int, crop: int, rule: CropRule) -> int:
    """Where a centre crop starts along one side, negative where it pads."""
    if crop > size:
        padding = crop - size
        return -(padding - padding // 2 if rule is CropRule.TRANSFORMERS else padding // 2)
    if rule is CropRule.TORCHVISION:
        return round((size - crop) / 2)
    return (size - crop) // 2
