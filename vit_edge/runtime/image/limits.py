"""Which files are images: four formats by default, more where they are asked for, none too large.

Every reader that is let in is code that a hostile file can reach, so what nobody needs stays out.
"""

import dataclasses
import enum
import functools
import warnings
from collections.abc import Iterable

from vit_edge.errors import UsageError


class ImageFormat(enum.Enum):
    """A file format that Pillow decodes by itself: no other program is started, no other file opened.

    The name is Pillow's own, the value what people call it.
    """

    JPEG = "JPEG"
    PNG = "PNG"
    WEBP = "WebP"
    BMP = "BMP"
    GIF = "GIF"
    TIFF = "TIFF"
    JPEG2000 = "JPEG 2000"
    AVIF = "AVIF"
    PPM = "PPM"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """What file names end in, lower case; of a folder, files named otherwise are passed over."""
        return _SUFFIXES[self]


_SUFFIXES = {
    ImageFormat.JPEG: (".jpg", ".jpeg"),
    ImageFormat.PNG: (".png",),
    ImageFormat.WEBP: (".webp",),
    ImageFormat.BMP: (".bmp",),
    ImageFormat.GIF: (".gif",),
    ImageFormat.TIFF: (".tif", ".tiff"),
    ImageFormat.JPEG2000: (".jp2", ".j2k", ".jpx"),
    ImageFormat.AVIF: (".avif",),
    ImageFormat.PPM: (".ppm", ".pgm", ".pbm", ".pnm"),
}

# What a build of Pillow may lack of the formats that are asked for, by Pillow's name for it.
_FEATURES = {ImageFormat.JPEG2000: "jpg_2000", ImageFormat.AVIF: "avif"}

# Pillow refuses more than twice its MAX_IMAGE_PIXELS, so a higher limit of ours would be a false promise.
PILLOW_CEILING = 178_956_970

DEFAULT_FORMATS = (ImageFormat.JPEG, ImageFormat.PNG, ImageFormat.WEBP, ImageFormat.BMP)


@dataclasses.dataclass(frozen=True)
class DecodeLimits:
    """Which files are images, and how much memory one may ask for.

    Raises:
        UsageError: limits that cannot be kept, or a format that this Pillow was built without.
    """

    max_pixels: int = 100_000_000  # width * height, read from the header before anything is decoded
    max_bytes: int = 268_435_456  # encoded size
    formats: tuple[ImageFormat, ...] = DEFAULT_FORMATS  # any other is refused, whatever the file is called

    def __post_init__(self) -> None:
        """Refuse limits that cannot be kept."""
        object.__setattr__(self, "formats", _members(self.formats))
        _check_readable(self.formats)
        if not 1 <= self.max_pixels <= PILLOW_CEILING:
            raise UsageError(f"max_pixels must be from 1 to {PILLOW_CEILING}, got {self.max_pixels}")
        if self.max_bytes < 1:
            raise UsageError(f"max_bytes must be at least 1, got {self.max_bytes}")

    @functools.cached_property
    def pillow_formats(self) -> tuple[str, ...]:
        """The formats by Pillow's names."""
        return tuple(each.name for each in self.formats)

    @functools.cached_property
    def suffixes(self) -> frozenset[str]:
        """What names of image files end in, lower case."""
        return frozenset(suffix for each in self.formats for suffix in each.suffixes)


def named(formats: tuple[ImageFormat, ...]) -> str:
    """`JPEG, PNG, WebP or BMP`."""
    *first, last = (each.value for each in formats)
    return f"{', '.join(first)} or {last}" if first else last


def _members(formats: object) -> tuple[ImageFormat, ...]:
    """Formats that are given as themselves, or by what people or Pillow call them."""
    if isinstance(formats, str) or not isinstance(formats, Iterable):
        raise UsageError(f"formats must be a tuple of ImageFormat, got {formats!r}")
    known = {name: each for each in ImageFormat for name in (each, each.name.lower(), each.value.lower())}
    found = []
    for each in formats:
        wanted = each.lower() if isinstance(each, str) else each
        if not isinstance(wanted, str | ImageFormat) or wanted not in known:
            names = ", ".join(member.name for member in ImageFormat)
            raise UsageError(f"formats must be of ImageFormat ({names}), got {each!r}")
        found.append(known[wanted])
    return tuple(found)


def _check_readable(formats: tuple[ImageFormat, ...]) -> None:
    """Refuse a format that this Pillow was built without.

    Raises:
        UsageError: there is no format, or this Pillow cannot read one.
    """
    if not formats:
        raise UsageError("formats must name at least one ImageFormat")
    for each in formats:
        if each in _FEATURES and not built_with(_FEATURES[each]):
            raise UsageError(f"this Pillow was built without {each.value}; install Pillow's own wheel")


def built_with(feature: str) -> bool:
    """Whether this Pillow has a feature, by Pillow's name for it."""
    from PIL import features  # only where a format is asked for

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an older Pillow warns of a name that it does not know
        return bool(features.check(feature))


DEFAULT_LIMITS = DecodeLimits()
