"""From anything that holds one image to an RGB Pillow image, within limits.

Colours are those of Pillow's `convert("RGB")`, which is what transformers and torchvision pipelines do:
alpha and palette transparency are dropped, not composited; greyscale is repeated; CMYK by Pillow's formula.
Two things differ from a bare `convert`: the EXIF orientation is applied, as transformers' pipeline does, too,
and 16-bit greyscale is scaled to 8 bits (its high byte, as Pillow does for 16-bit RGB) where `convert` clips
whatever exceeds 255 to white. Files keep 12-bit and other narrower data in 16 bits as well, which would
turn nearly black; a picture that uses less than a quarter of the range is refused, as its range is unknown.
"""

import errno
import io
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from vit_edge.errors import ImageError
from vit_edge.files import read_file
from vit_edge.runtime.device.lock import Lock
from vit_edge.runtime.image.effort import check_effort, check_exif
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, PILLOW_CEILING, DecodeLimits, named
from vit_edge.runtime.image.reduced import TURNS, Box, Reduced, Turn
from vit_edge.runtime.image.too_much import TooMuch

Enough = Callable[[int, int], tuple[int, int]]
_PATHS = (str, Path, os.PathLike)  # a Path is one, too, but the check of a class takes less time
ImageSource = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray

_ORIENTATION_TAG = 0x0112
_LEAST_LARGEST = 1 << 14  # of a picture in 16 bits of grey: data of 14 bits stay below
_LONGEST_PROFILE = 2**18  # hexadecimal digits, two for each byte of a block of at most 64 KiB

# Two threads may be given one Pillow image, and its first load changes it.
_given_lock = Lock()


class _Quiet(Lock):
    """Hides the warnings of a few calls in all threads, in a fifth of the time of `warnings.catch_warnings`.

    What is ignored leaves no trace in a module's registry of warnings, so none has to be told of the change.
    It is a lock, since the list of filters belongs to the process.
    """

    def __init__(self) -> None:
        super().__init__()
        self._hidden: Sequence[tuple[Any, ...]] | None = None  # what stands otherwise

    def renew(self) -> None:
        """Be free, and hide nothing any more."""
        self._show()
        super().renew()

    def __enter__(self) -> None:
        super().__enter__()
        self._hidden = warnings.filters
        warnings.filters = [("ignore", None, Warning, None, 0)]

    def __exit__(self, *exception: object) -> None:
        self._show()
        super().__exit__(*exception)

    def _show(self) -> None:
        if self._hidden is not None:
            warnings.filters, self._hidden = self._hidden, None


_quiet = _Quiet()


def decode(source: ImageSource, limits: DecodeLimits | None = DEFAULT_LIMITS) -> Image.Image:
    """Decode one image to mode RGB, upright by its EXIF orientation; of an animation, the first frame.

    Args:
        source: a path, the bytes of a file, a binary file object (read from its position), a Pillow image, or
            a uint8 array (H, W, 3) in RGB order.
        limits: the formats that are taken, and bounds on pixels and on encoded bytes; None: the default.

    Returns:
        An RGB image. A Pillow image that is RGB and upright already is returned as it is.

    Raises:
        ImageError: the source is missing, of another format, damaged, truncated or beyond the limits.
    """
    whole = decode_reduced(source, None, limits)
    return whole.turned(whole.image)


def decode_reduced(
    source: ImageSource, enough: Enough | None, limits: DecodeLimits | None = DEFAULT_LIMITS
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
    limits = limits or DEFAULT_LIMITS
    name, image, orientation = _opened(source, limits)
    size = image.size
    _check_size(name, size, limits)
    if 0 in size:
        raise ImageError(f"{name} has no pixels ({size[0]} x {size[1]})")
    try:
        box = None
        if orientation is not None and enough is not None:
            box = _draft(image, enough, TURNS.get(orientation))
        if image is source:
            with _given_lock:
                image.load()
        else:
            image.load()
        rgb = _to_rgb(image)
        if orientation is None:
            orientation = _orientation(image)
        return Reduced(rgb, box or (0, 0, *rgb.size), size, TURNS.get(orientation))
    except ImageError as error:
        raise ImageError(f"{name} {error}") from None
    except Exception as error:  # decoders raise whatever the damage leads to
        raise ImageError(f"{name} cannot be decoded, it is damaged or truncated ({error})") from error


def _check_size(name: str, size: tuple[int, int], limits: DecodeLimits) -> None:
    if size[0] * size[1] > limits.max_pixels:
        raise ImageError(
            f"{name} has {size[0]} x {size[1]} pixels, more than the limit of {limits.max_pixels}; "
            "make it smaller or raise DecodeLimits.max_pixels"
        )


def source_name(source: ImageSource) -> str:
    """What to call an image source in a message: its path where it has one."""
    if isinstance(source, _PATHS):
        return os.fspath(source)
    if isinstance(source, bytes):
        return f"an image of {len(source)} bytes"
    if isinstance(source, Image.Image | np.ndarray):
        return "the given image"
    return str(getattr(source, "name", "the image stream"))


def _opened(source: ImageSource, limits: DecodeLimits) -> tuple[str, Image.Image, int | None]:
    """What to call the source, its image with the header read, and its orientation where known by now.

    It is known of JPEG files of our own opening, which may be decoded at a fraction.
    """
    if isinstance(source, Image.Image):
        return source_name(source), source, None
    if isinstance(source, np.ndarray):
        return "an image array", _from_array(source, limits), None
    name, data = _encoded(source, limits)
    return name, *_open(data, name, limits)


def _draft(image: Image.Image, enough: Enough, turn: Turn | None) -> Box | None:
    """Set a JPEG file to be decoded at a fraction; the picture's box in what will be decoded."""
    width, height = image.size
    wanted = enough(height, width)[::-1] if turn is not None and turn.swaps else enough(width, height)
    if width < 2 * wanted[0] or height < 2 * wanted[1]:
        return None
    drafted = image.draft(None, wanted)
    return None if drafted is None else drafted[1]


def _from_array(array: np.ndarray, limits: DecodeLimits) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ImageError(
            f"an image array must be uint8 of shape (height, width, 3), got {array.dtype} {array.shape}"
        )
    _check_size("an image array", (array.shape[1], array.shape[0]), limits)  # before it is copied
    return Image.fromarray(np.ascontiguousarray(array))


def _encoded(source: str | os.PathLike[str] | bytes | BinaryIO, limits: DecodeLimits) -> tuple[str, bytes]:
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


def _open(data: bytes, name: str, limits: DecodeLimits) -> tuple[Image.Image, int | None]:
    try:
        check_effort(data, limits.max_pixels)
    except TooMuch as error:
        raise ImageError(f"{name} {error}; save it again") from None
    try:
        with _quiet:  # our own pixel limit replaces the decompression bomb warning
            image = Image.open(io.BytesIO(data), formats=limits.pillow_formats)
            return image, _read_orientation(image) if isinstance(image, JpegImageFile) else None
    except ImageError as error:
        raise ImageError(f"{name} {error}") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name} has more than {PILLOW_CEILING} pixels; make it smaller") from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{name} is no {named(limits.formats)} image; convert it, or allow its format "
            "with --allow-format or DecodeLimits.formats"
        ) from None
    except Exception as error:  # decoders raise whatever the damage leads to
        raise ImageError(f"{name} has a damaged header ({error})") from error


def _orientation(image: Image.Image) -> int:
    with _quiet:
        return _read_orientation(image)


def _read_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where there is none or the EXIF block is unreadable.

    Raises:
        ImageError: reading the block would take far more memory than it has.
    """
    _check_metadata(image)
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # a broken EXIF block does not make the pixels wrong
        return 1
    return value if isinstance(value, int) else 1


def _check_metadata(image: Image.Image) -> None:
    """What `check_effort` did not see: blocks that a reader has inflated, or of an image that was given."""
    block, text = image.info.get("exif"), image.info.get("Raw profile type exif")
    try:
        if isinstance(block, bytes):
            check_exif(block)
        if isinstance(text, str) and len(text) > _LONGEST_PROFILE:
            raise TooMuch(f"has an EXIF profile of more than {_LONGEST_PROFILE} digits")
    except TooMuch as error:
        raise ImageError(f"{error}; save it again") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        return _from_16_bits(np.asarray(image).astype(np.uint16))
    if image.mode in ("I", "F"):
        raise ImageError(f"has mode {image.mode}, whose range is unknown; scale it to 8 bits first")
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.copy()
        del image.info["transparency"]  # convert drops it too, but with a warning
    return image.convert("RGB")


def _from_16_bits(values: npt.NDArray[np.uint16]) -> Image.Image:
    """The high bytes, where the values use 16 bits; black is black whatever the range."""
    largest = int(values.max())
    if 0 < largest < _LEAST_LARGEST:
        raise ImageError(
            f"holds 16-bit grey values of at most {largest}, so {largest.bit_length()}-bit data or a nearly "
            "black picture: which, the file does not say; scale it to 8 bits first"
        )
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
