"""From anything that holds one image to an RGB Pillow image, within limits, in two steps.

`open_image` reads the header and judges it; `OpenImage.decode` makes the pixels, no more of them than are
needed. Colours are as in `rgb`. The EXIF orientation is applied, as transformers' pipeline does, too.
"""

import dataclasses
import io

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from vit_edge.errors import ImageError
from vit_edge.runtime.device.lock import Lock
from vit_edge.runtime.image.effort import check_effort, check_exif
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, PILLOW_CEILING, DecodeLimits, named
from vit_edge.runtime.image.quiet import quiet
from vit_edge.runtime.image.reduced import TURNS, Box, Reduced, Turn, along
from vit_edge.runtime.image.rgb import to_rgb
from vit_edge.runtime.image.source import ImageSource, check_size, encoded, from_array, source_name
from vit_edge.runtime.image.too_much import TooMuch

_ORIENTATION_TAG = 0x0112
_LONGEST_PROFILE = 2**18  # hexadecimal digits, two for each byte of a block of at most 64 KiB

# Two threads may be given one Pillow image, and its first load changes it.
_given_lock = Lock()


@dataclasses.dataclass(frozen=True, slots=True)
class OpenImage:
    """One image whose header was read and is within the limits; its pixels are not decoded yet."""

    name: str  # what to call it in a message
    image: Image.Image
    size: tuple[int, int]  # pixels (width, height), as it lies in the file
    orientation: int | None
    """By EXIF. Known by now of JPEG files of our own opening alone, which may be decoded at a fraction."""
    given: bool  # whether the caller holds the Pillow image

    @property
    def upright_size(self) -> tuple[int, int]:
        """Pixels (width, height) upright; where the orientation is not known yet, as it lies."""
        return along(self.size, self._turn)

    @property
    def _turn(self) -> Turn | None:
        return None if self.orientation is None else TURNS.get(self.orientation)

    def decode(self, at_least: tuple[int, int] | None = None) -> Reduced:
        """The pixels; of a JPEG file at 1/2, 1/4 or 1/8 of its resolution where that suffices.

        The reduction happens in libjpeg's inverse cosine transform and saves most of the work of decoding. A
        Pillow image is decoded in full even if it is a JPEG file that has only been opened: what the caller
        holds stays as it is.

        Args:
            at_least: pixels (width, height) of the upright picture that must be left; None: all.

        Raises:
            ImageError: the image is damaged or truncated, or the range of its values is unknown.
        """
        try:
            box = None if at_least is None or self.orientation is None else self._draft(at_least)
            if self.given:
                with _given_lock:
                    self.image.load()
            else:
                self.image.load()
            rgb = to_rgb(self.image)
            orientation = _orientation(self.image) if self.orientation is None else self.orientation
            return Reduced(rgb, box or (0, 0, *rgb.size), self.size, TURNS.get(orientation))
        except ImageError as error:
            raise ImageError(f"{self.name} {error}") from None
        except Exception as error:  # decoders raise whatever the damage leads to
            raise ImageError(
                f"{self.name} cannot be decoded, it is damaged or truncated ({error})"
            ) from error

    def _draft(self, at_least: tuple[int, int]) -> Box | None:
        """Set a JPEG file to be decoded at a fraction; the picture's box in what will be decoded."""
        wanted = along(at_least, self._turn)
        if self.size[0] < 2 * wanted[0] or self.size[1] < 2 * wanted[1]:
            return None
        drafted = self.image.draft(None, wanted)
        return None if drafted is None else drafted[1]


def decode(source: ImageSource, limits: DecodeLimits | None = DEFAULT_LIMITS) -> Image.Image:
    """Decode one image to mode RGB, upright by its EXIF orientation; of an animation, the first frame.

    Args:
        source: as in `open_image`.
        limits: as in `open_image`.

    Returns:
        An RGB image. A Pillow image that is RGB and upright already is returned as it is.

    Raises:
        ImageError: the source is missing, of another format, damaged, truncated or beyond the limits.
    """
    whole = open_image(source, limits).decode()
    return whole.turned(whole.image)


def open_image(source: ImageSource, limits: DecodeLimits | None = DEFAULT_LIMITS) -> OpenImage:
    """Read the header of one image, and refuse what is beyond the limits before anything is decoded.

    Args:
        source: a path, the bytes of a file, a binary file object (read from its position), a Pillow image, or
            a uint8 array (H, W, 3) in RGB order.
        limits: the formats that are taken, and bounds on the pixels of the whole picture and on encoded
            bytes; None: the default.

    Raises:
        ImageError: the source is missing, of another format, beyond the limits, or its header is damaged.
    """
    limits = limits or DEFAULT_LIMITS
    name, image, orientation = _opened(source, limits)
    size = image.size
    check_size(name, size, limits)
    if 0 in size:
        raise ImageError(f"{name} has no pixels ({size[0]} x {size[1]})")
    return OpenImage(name, image, size, orientation, given=image is source)


def _opened(source: ImageSource, limits: DecodeLimits) -> tuple[str, Image.Image, int | None]:
    """What to call the source, its image with the header read, and its orientation where known by now."""
    if isinstance(source, Image.Image):
        return source_name(source), source, None
    if isinstance(source, np.ndarray):
        return "an image array", from_array(source, limits), None
    name, data = encoded(source, limits)
    return name, *_from_file(data, name, limits)


def _from_file(data: bytes, name: str, limits: DecodeLimits) -> tuple[Image.Image, int | None]:
    try:
        check_effort(data, limits.max_pixels)
    except TooMuch as error:
        raise ImageError(f"{name} {error}; save it again") from None
    try:
        with quiet:  # our own pixel limit replaces the decompression bomb warning
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
    with quiet:
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
