"""From anything that holds one image to an RGB Pillow image, within limits.

Colours are those of Pillow's `convert("RGB")`, which is what transformers and torchvision pipelines do:
alpha and palette transparency are dropped, not composited; greyscale is repeated; CMYK by Pillow's formula.
Two things differ from a bare `convert`: the EXIF orientation is applied, and 16-bit greyscale is scaled to
8 bits (its high byte, as Pillow does for 16-bit RGB) where `convert` would clip it to white.
"""

import dataclasses
import io
import os
import stat
import threading
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from vit_edge.errors import ImageError, UsageError

ImageSource = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")

# Pillow refuses more than twice its MAX_IMAGE_PIXELS, so a higher limit of ours would be a false promise.
_PILLOW_CEILING = 178_956_970

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# warnings.catch_warnings swaps a process-wide list, so two threads must not be inside it at once.
_quiet_lock = threading.Lock()


@dataclasses.dataclass(frozen=True)
class DecodeLimits:
    """How much memory one image may ask for."""

    max_pixels: int = 100_000_000  # width * height, read from the header before anything is decoded
    max_bytes: int = 268_435_456  # encoded size

    def __post_init__(self) -> None:
        """Refuse limits that cannot be kept."""
        if not 1 <= self.max_pixels <= _PILLOW_CEILING:
            raise UsageError(f"max_pixels must be from 1 to {_PILLOW_CEILING}, got {self.max_pixels}")
        if self.max_bytes < 1:
            raise UsageError(f"max_bytes must be at least 1, got {self.max_bytes}")


DEFAULT_LIMITS = DecodeLimits()


def decode(source: ImageSource, limits: DecodeLimits = DEFAULT_LIMITS) -> Image.Image:
    """Decode one image to mode RGB, upright by its EXIF orientation; of an animation, the first frame.

    Args:
        source: a path, the bytes of a file, a binary file object (read from its position), a Pillow image, or
            a uint8 array (H, W, 3) in RGB order.
        limits: bounds on pixels and on encoded bytes.

    Returns:
        An RGB image. A Pillow image that is RGB and upright already is returned as it is.

    Raises:
        ImageError: the source is missing, no JPEG, PNG, WebP or BMP, damaged, truncated or beyond the limits.
    """
    if isinstance(source, Image.Image):
        name, image = "the given image", source
    elif isinstance(source, np.ndarray):
        return _from_array(source, limits)
    else:
        name, data = _encoded(source, limits)
        image = _open(data, name)
    if image.width * image.height > limits.max_pixels:
        raise ImageError(
            f"{name} has {image.width} x {image.height} pixels, more than the limit of {limits.max_pixels}; "
            "make it smaller or raise DecodeLimits.max_pixels"
        )
    if image.width == 0 or image.height == 0:
        raise ImageError(f"{name} has no pixels ({image.width} x {image.height})")
    try:
        image.load()
        upright = _UPRIGHT.get(_orientation(image))
        rgb = _to_rgb(image)
        return rgb if upright is None else rgb.transpose(upright)
    except ImageError as error:
        raise ImageError(f"{name} {error}") from None
    except Exception as error:  # decoders raise whatever the damage leads to
        raise ImageError(f"{name} cannot be decoded, it is damaged or truncated ({error})") from error


def source_name(source: ImageSource) -> str:
    """What to call an image source in a message: its path where it has one."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, bytes):
        return f"an image of {len(source)} bytes"
    if isinstance(source, Image.Image | np.ndarray):
        return "the given image"
    return str(getattr(source, "name", "the image stream"))


def _from_array(array: np.ndarray, limits: DecodeLimits) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ImageError(
            f"an image array must be uint8 of shape (height, width, 3), got {array.dtype} {array.shape}"
        )
    if array.shape[0] * array.shape[1] > limits.max_pixels:
        raise ImageError(f"an image array has {array.shape} values, beyond {limits.max_pixels} pixels")
    return Image.fromarray(np.ascontiguousarray(array))


def _encoded(source: str | os.PathLike[str] | bytes | BinaryIO, limits: DecodeLimits) -> tuple[str, bytes]:
    name = source_name(source)
    if isinstance(source, bytes):
        data = source
    elif isinstance(source, str | os.PathLike):
        data = _read_file(name, limits)
    elif hasattr(source, "read"):
        try:
            data = source.read(limits.max_bytes + 1)
        except (OSError, ValueError) as error:
            raise ImageError(f"{name} cannot be read ({error})") from error
        if not isinstance(data, bytes):
            raise ImageError(f"{name} was opened as text; open it in binary mode")
    else:
        raise ImageError(
            f"an image must be a path, bytes, file, Pillow image or array, got {type(source).__name__}"
        )
    if len(data) > limits.max_bytes:
        raise ImageError(f"{name} is larger than the limit of {limits.max_bytes} bytes")
    if not data:
        raise ImageError(f"{name} is empty")
    return name, data


def _read_file(name: str, limits: DecodeLimits) -> bytes:
    try:
        status = Path(name).stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or device would block or never end
            raise ImageError(f"{name} is no file; give the path of one image")
        with Path(name).open("rb") as file:
            return file.read(limits.max_bytes + 1)
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{name!r} cannot be read ({reason})") from error


def _open(data: bytes, name: str) -> Image.Image:
    try:
        with _quiet_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own pixel limit replaces the decompression bomb warning
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise ImageError(f"{name} has more than {_PILLOW_CEILING} pixels; make it smaller") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name} is no JPEG, PNG, WebP or BMP image; convert it to one of these") from None
    except Exception as error:  # decoders raise whatever the damage leads to
        raise ImageError(f"{name} has a damaged header ({error})") from error


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where there is none or the EXIF block is unreadable."""
    with _quiet_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = image.getexif().get(_ORIENTATION_TAG, 1)
        except Exception:  # a broken EXIF block does not make the pixels wrong
            return 1
    return value if isinstance(value, int) else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        high_byte = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return Image.fromarray(high_byte).convert("RGB")
    if image.mode in ("I", "F"):
        raise ImageError(f"has mode {image.mode}, whose range is unknown; scale it to 8 bits first")
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.copy()
        del image.info["transparency"]  # convert drops it too, but with a warning
    return image.convert("RGB")
