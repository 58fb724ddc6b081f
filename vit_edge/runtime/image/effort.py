"""What a file asks of its decoder beyond its pixels, told from its structure before a decoder sees it.

A limit on pixels and bytes does not bound the work: a progressive JPEG may go over all pixels thousands of
times, and a file of millions of empty parts keeps a reader busy for minutes. Each check below steps over the
parts of one format and stops at the first that is too much. It judges nothing else: what is damaged is left
to the decoder, which says so better.
"""

import re
import struct
from collections.abc import Callable, Iterator, Mapping

from vit_edge.runtime.image.avif import check_avif
from vit_edge.runtime.image.jpeg2000 import check_codestream, check_jp2
from vit_edge.runtime.image.too_much import TooMuch

_MOST_SCANS = 500  # of a JPEG; an encoder makes 1 to 20
_SCANS_PER_LIMIT = 24  # times the pixel limit: how many pixels all scans together may go over
_MOST_SEGMENTS = 4096  # of a JPEG before its first scan; a large colour profile takes 255
_MOST_EXIF = 16  # segments of it; the standard has one, and Pillow strings more of them together
_MOST_FILLING = 65_536  # bytes between the segments of a JPEG
_MOST_CHUNKS = 65_536  # of a PNG; libpng writes 8 KiB of pixels into each
_MOST_NOTES = 1000  # of them, those that are no pixels
_MOST_FRAMES = 10_000  # chunks of a WebP
_MOST_BLOCKS = 4096  # before the first picture of a GIF; Pillow strings those of a comment together
_MOST_RUNS = 8 * 2**20  # bytes and pixels of a run-length encoded BMP, of which Pillow decodes 1 MB a second
_MOST_TEXT = 8 * 2**20  # bytes of a PPM that is written in digits
_MOST_HEADER = 65_536  # bytes of a PPM before its pixels, comments included
_MOST_VALUES = 4_000_000  # numbers in a TIFF directory; each becomes a Python object
_SMALL = 16 * 2**20  # bytes that a directory may ask for, whatever it says

_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_ALONE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})  # markers without a segment: TEM, RST0 to RST7, SOI
# Where Pillow looks for the next marker right behind this one, whatever length it states.
_UNREAD = _ALONE | {0xC8, 0xD9, *range(0xF0, 0xFE)}
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in coded pixels: neither a stuffed byte nor a restart
_SOS, _EOI = 0xDA, 0xD9
_PIXEL_CHUNKS = frozenset({b"IDAT", b"fdAT", b"fcTL"})
_SUB_DIRECTORIES = frozenset({34665, 34853, 40965})  # EXIF, GPS, interoperability
_UNITS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_BYTE_TYPES = frozenset({1, 2, 6, 7})


def check_effort(data: bytes, max_pixels: int) -> None:
    """Refuse a file whose decoding would take far more than its pixels justify.

    Args:
        data: the whole file, of any format.
        max_pixels: the limit on width times height; how much work a file may ask for grows with it.

    Raises:
        TooMuch: with the cause.
    """
    for signature, check in _CHECKS.items():
        if data.startswith(signature):
            check(data, max_pixels)
    if data[4:8] == b"ftyp":
        check_avif(data, max_pixels)


def check_exif(block: bytes) -> None:
    """Refuse an EXIF block whose values would be many times as long as the block itself.

    Raises:
        TooMuch: with the cause.
    """
    _check_directory(block[6:] if block.startswith(b"Exif\0\0") else block)


def _jpeg(data: bytes, max_pixels: int) -> None:
    """Segments up to the first scan one by one, then how often the pixels are gone over."""
    pixels, exif = 0, list[bytes]()
    for marker, start, length in _segments(data):
        if marker == _SOS:
            _check_directory(b"".join(exif))
            _check_scans(data, start, pixels, max_pixels)
            return
        if marker in _FRAME_HEADERS:
            height, width = struct.unpack(">HH", data[start + 3 : start + 7].ljust(4, b"\0"))
            pixels = max(pixels, height * width)
        elif marker == 0xE1 and data.startswith(b"Exif\0\0", start + 2):
            exif.append(data[start + 8 : start + length])
            if len(exif) > _MOST_EXIF:
                raise TooMuch(f"has more than {_MOST_EXIF} EXIF blocks")
        elif marker == 0xE2 and data.startswith(b"MPF\0", start + 2):
            _check_directory(data[start + 6 : start + length])


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, where its length stands, length) of a JPEG's segments, as Pillow goes through them."""
    position, parts, filling = 2, 0, 0
    while (start := data.find(b"\xff", position)) >= 0:
        end = start + 1
        while end < len(data) and data[end] == 0xFF and end - start <= _MOST_FILLING + 1:
            end += 1
        filling, parts = filling + end - 1 - position, parts + 1
        if parts > _MOST_SEGMENTS or filling > _MOST_FILLING:
            raise TooMuch(f"has more than {_MOST_SEGMENTS} parts, or much between them, before its pixels")
        position = end + 1
        if position >= len(data):
            return
        if data[end] not in _UNREAD:
            length = int.from_bytes(data[position : position + 2], "big")
            yield data[end], position, length
            position += max(length, 2)


def _check_scans(data: bytes, first: int, pixels: int, max_pixels: int) -> None:
    most = min(_MOST_SCANS, _SCANS_PER_LIMIT * max_pixels // max(pixels, 1))
    if data.count(b"\xff\xda", first) < most:  # other bytes may look like a scan, but none is overlooked
        return
    position, scans = first, 1
    while found := _MARKER.search(data, position):
        position = found.end()
        marker = data[position - 1]
        if marker == _EOI:
            return
        if marker in _ALONE:
            continue
        scans += marker == _SOS
        if scans > most:
            raise TooMuch(f"goes over its {pixels} pixels in more than {most} scans, which no encoder does")
        position += max(int.from_bytes(data[position : position + 2], "big"), 2)


def _png(data: bytes, _max_pixels: int) -> None:
    position, chunks, notes = 8, 0, 0
    while position + 8 <= len(data):
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        chunks += 1
        notes += kind not in _PIXEL_CHUNKS
        if chunks > _MOST_CHUNKS or notes > _MOST_NOTES:
            raise TooMuch(f"has more than {_MOST_CHUNKS} chunks, or {_MOST_NOTES} beside its pixels")
        if kind == b"eXIf":
            check_exif(data[position + 8 : position + 8 + length])
        position += 12 + length


def _webp(data: bytes, _max_pixels: int) -> None:
    if data[8:12] != b"WEBP":
        return
    position, chunks = 12, 0
    while position + 8 <= len(data):
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        chunks += 1
        if chunks > _MOST_FRAMES:
            raise TooMuch(f"has more than {_MOST_FRAMES} frames or other parts")
        if data[position : position + 4] == b"EXIF":
            check_exif(data[position + 8 : position + 8 + length])
        position += 8 + length + length % 2


def _gif(data: bytes, _max_pixels: int) -> None:
    """The blocks before the first picture."""
    if len(data) < 13:
        return
    position = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    blocks = 0
    while position + 2 < len(data) and data[position] != 0x2C:
        in_extension = data[position] == 0x21
        position += 2 if in_extension else 1
        blocks += 1
        while in_extension and position < len(data) and data[position]:
            position += 1 + data[position]
            blocks += 1
            if blocks > _MOST_BLOCKS:
                break
        position += in_extension
        if blocks > _MOST_BLOCKS:
            raise TooMuch(f"has more than {_MOST_BLOCKS} blocks before its first picture")


def _bmp(data: bytes, _max_pixels: int) -> None:
    if len(data) < 34:
        return
    header, width, height = struct.unpack("<Iii", data[14:26])
    compressed = header >= 40 and int.from_bytes(data[30:34], "little") in (1, 2)
    if compressed and (len(data) > _MOST_RUNS or abs(width * height) > _MOST_RUNS):
        raise TooMuch(f"is run-length encoded and has more than {_MOST_RUNS} bytes or pixels")


def _ppm(data: bytes, _max_pixels: int) -> None:
    if data[1:2] in (b"1", b"2", b"3") and len(data) > _MOST_TEXT:
        raise TooMuch(f"is written in digits and longer than {_MOST_TEXT} bytes")
    head = re.sub(rb"#[^\r\n]*", b"", data[:_MOST_HEADER])
    if len(data) > _MOST_HEADER and len(head.split(maxsplit=4)) < 4:
        raise TooMuch(f"has no size in its first {_MOST_HEADER} bytes")


def _tiff(data: bytes, _max_pixels: int) -> None:
    _check_directory(data, whole_file=True)


def _check_directory(block: bytes, whole_file: bool = False) -> None:
    """A TIFF directory, as EXIF is one: its values must fit into the block that they lie in.

    Pillow before version 12 reads each value where its entry points to, and all may point to the same bytes.
    """
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return
    big = block[2:4] in (b"\x2b\0", b"\0\x2b")
    offset_form, entry_form = ("Q", "HHQQ") if big else ("L", "HHLL")
    pending = _unpacked(f"{order}{offset_form}", block, 8 if big else 4)
    seen: set[int] = set()
    stored = values = 0
    while pending:
        start = pending.pop()
        if start in seen:
            continue
        seen.add(start)
        count_form = f"{order}{'Q' if big else 'H'}"
        size = struct.calcsize(f"{order}{entry_form}")
        first = start + struct.calcsize(count_form)
        stated = sum(_unpacked(count_form, block, start))
        count = min(stated, max(0, (len(block) - first) // size))
        if not whole_file and count * len(block) <= _SMALL:
            continue
        entries = block[first : first + count * size]
        for tag, kind, number, value in struct.iter_unpack(f"{order}{entry_form}", entries):
            length = number * _UNITS.get(kind, 0)
            stored += length if length > (8 if big else 4) else 0
            values += 0 if kind in _BYTE_TYPES else min(number, length)
            if whole_file and tag in _SUB_DIRECTORIES:
                pending.append(value)
        if stored > max(len(block), _SMALL) or values > _MOST_VALUES:
            raise TooMuch("has a directory (EXIF, TIFF) whose values are longer than the block they lie in")


def _unpacked(form: str, block: bytes, start: int) -> list[int]:
    """The numbers at a place; none where the block ends before."""
    part = block[start : start + struct.calcsize(form)]
    return list(struct.unpack(form, part)) if len(part) == struct.calcsize(form) else []


_CHECKS: Mapping[bytes, Callable[[bytes, int], None]] = {
    b"\xff\xd8": _jpeg,
    b"\x89PNG": _png,
    b"RIFF": _webp,
    b"GIF8": _gif,
    b"BM": _bmp,
    b"P": _ppm,
    b"II": _tiff,
    b"MM": _tiff,
    b"\0\0\0\x0cjP": check_jp2,
    b"\xff\x4f\xff\x51": check_codestream,
}
