"""What may hold one image, and the bytes in it, read within limits."""

import errno
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from vit_edge.errors import ImageError
from vit_edge.files import read_file
from vit_edge.runtime.image.limits import DecodeLimits

ImageSource = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray

_PATHS = (str, Path, os.PathLike)  # a Path is one, too, but the check of a class takes less time


def source_name(source: ImageSource) -> str:
    """What to call an image source in a message: its path where it has one."""
    if isinstance(source, _PATHS):
        return os.fspath(source)
    if isinstance(source, bytes):
        return f"an image of {len(source)} bytes"
    if isinstance(source, Image.Image | np.ndarray):
        return "the given image"
    return str(getattr(source, "name", "the image stream"))


def encoded(source: str | os.PathLike[str] | bytes | BinaryIO, limits: DecodeLimits) -> tuple[str, bytes]:
    """What to call a source, and the bytes of its file.

    Raises:
        ImageError: it is missing, empty, unreadable or beyond the limit.
    """
    name = source_name(source)
    if isinstance(source, bytes):
        data = source
    elif isinstance(source, _PATHS):
        data = _read_file(name, limits)
    elif hasattr(source, "read"):
        data = _read_stream(source, name, limits)
    else:
        raise ImageError(
            f"an image must be a path, bytes, file, Pillow image or array, got {type(source).__name__}"
        )
    if len(data) > limits.max_bytes:
        raise ImageError(f"{name} is larger than the limit of {limits.max_bytes} bytes")
    if not data:
        raise ImageError(f"{name} is empty")
    return name, data


def _read_stream(stream: BinaryIO, name: str, limits: DecodeLimits) -> bytes:
    """To its end: a pipe or a socket gives what it has, which may be less than was asked for."""
    parts: list[bytes] = []
    left = limits.max_bytes + 1
    while left > 0:
        try:
            part = stream.read(left)
        except (OSError, ValueError) as error:
            raise ImageError(f"{name} cannot be read ({error})") from error
        if part is None:
            raise ImageError(f"{name} has no bytes yet and does not wait for them; open it blocking")
        if not isinstance(part, bytes):
            raise ImageError(f"{name} was opened as text; open it in binary mode")
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _read_file(name: str, limits: DecodeLimits) -> bytes:
    try:
        return read_file(name, limits.max_bytes)
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist") from None
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise ImageError(f"{name} is larger than the limit of {limits.max_bytes} bytes") from None
        raise ImageError(f"{name!r} cannot be read ({error.strerror}); give the path of one image") from error


def from_array(array: np.ndarray, limits: DecodeLimits) -> Image.Image:
    """The image of a uint8 array (H, W, 3) in RGB order.

    Raises:
        ImageError: it is no such array, or beyond the limit.
    """
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ImageError(
            f"an image array must be uint8 of shape (height, width, 3), got {array.dtype} {array.shape}"
        )
    check_size("an image array", (array.shape[1], array.shape[0]), limits)  # before it is copied
    return Image.fromarray(np.ascontiguousarray(array))


def check_size(name: str, size: tuple[int, int], limits: DecodeLimits) -> None:
    """Refuse an image of more pixels (width, height) than the limit.

    Raises:
        ImageError: it has more.
    """
    if size[0] * size[1] > limits.max_pixels:
        raise ImageError(
            f"{name} has {size[0]} x {size[1]} pixels, more than the limit of {limits.max_pixels}; "
            "make it smaller or raise DecodeLimits.max_pixels"
        )
