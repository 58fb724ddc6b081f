"""From anything that holds one image to an RGB Pillow image, within limits.

Colours are those of Pillow's `convert("RGB")`, which is what transformers and torchvision pipelines do:
alpha and palette transparency are dropped, not composited; greyscale is repeated; CMYK by Pillow's formula.
Two things differ from a bare `convert`: the EXIF orientation is applied, and 16-bit greyscale is scaled to
8 bits (its high byte, as Pillow does for 16-bit RGB) where `convert` would clip it to white.
"""

import contextlib
import dataclasses
import io
import os
import stat
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from vit_edge.errors import ImageError, UsageError

Enough = Callable[[int, int], tuple[int, int]]
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

_SWAPPING = frozenset(transpose for orientation, transpose in _UPRIGHT.items() if orientation >= 5)

# Two threads may be given one Pillow image, and its first load changes it.
_given_lock = threading.Lock()

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


@dataclasses.dataclass(frozen=True)
class Reduced:
    """An image decoded at full resolution or at a fraction of it, and not yet turned upright."""

    image: Image.Image  # RGB
    box: tuple[float, float, float, float]  # the picture in `image`: left, top, right, bottom in pixels
    size: tuple[int, int]  # pixels (width, height) of the whole picture, as it lies in the file
    transpose: Image.Transpose | None  # what turns it upright

    @property
    def upright_size(self) -> tuple[int, int]:
        """Pixels (width, height) of the whole picture, upright."""
        return self.along(self.size)

    def along(self, size: tuple[int, int]) -> tuple[int, int]:
        """From the file's axes to the upright picture's, or back: the same swap or none."""
        return size[::-1] if self.transpose in _SWAPPING else size

    def turned(self, image: Image.Image) -> Image.Image:
        """An image that lies as this one does, upright."""
        return image if self.transpose is None else image.transpose(self.transpose)


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
    whole = decode_reduced(source, None, limits)
    return whole.turned(whole.image)


def decode_reduced(
    source: ImageSource, enough: Enough | None, limits: DecodeLimits = DEFAULT_LIMITS
) -> Reduced:
    """As `decode`, but a JPEG file is decoded at 1/2, 1/4 or 1/8 of its resolution where that suffices.

    The reduction happens in libjpeg's inverse cosine transform and saves most of the work of decoding. A
    Pillow image is decoded in full even if it is a JPEG file that has only been opened: what the caller holds
    stays as it is.

    Args:
        source: as in `decode`.
        enough: from the upright picture's (width, height) to the pixels that must be left; None: all.
        limits: as in `decode`; they apply to the whole picture.

    Raises:
        ImageError: as in `decode`.
    """
    name, image = _opened(source, limits)
    size = image.size
    if size[0] * size[1] > limits.max_pixels:
        raise ImageError(
            f"{name} has {size[0]} x {size[1]} pixels, more than the limit of {limits.max_pixels}; "
            "make it smaller or raise DecodeLimits.max_pixels"
        )
    if 0 in size:
        raise ImageError(f"{name} has no pixels ({size[0]} x {size[1]})")
    try:
        drafted = None if enough is None or image is source else _draft(image, enough)
        with _given_lock if image is source else contextlib.nullcontext():
            image.load()
        rgb = _to_rgb(image)
        return Reduced(rgb, drafted or (0, 0, *rgb.size), size, _UPRIGHT.get(_orientation(image)))
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


def _opened(source: ImageSource, limits: DecodeLimits) -> tuple[str, Image.Image]:
    """What to call the source, and its image with the header read."""
    if isinstance(source, Image.Image):
        return source_name(source), source
    if isinstance(source, np.ndarray):
        return "an image array", _from_array(source)
    name, data = _encoded(source, limits)
    return name, _open(data, name)


def _draft(image: Image.Image, enough: Enough) -> tuple[float, float, float, float] | None:
    """Set a JPEG file to be decoded at a fraction; the picture's box in what will be decoded."""
    if not isinstance(image, JpegImageFile):
        return None
    swapped = _UPRIGHT.get(_orientation(image)) in _SWAPPING
    wanted = enough(image.height, image.width)[::-1] if swapped else enough(image.width, image.height)
    drafted = image.draft(None, wanted)
    return None if drafted is None else drafted[1]


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ImageError(
            f"an image array must be uint8 of shape (height, width, 3), got {array.dtype} {array.shape}"
        )
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
            # Python sets aside as much memory as it is asked to read.
            return file.read(min(status.st_size, limits.max_bytes) + 1)
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
