"""What an AVIF file asks of its decoder beyond its pixels.

An item (ISO/IEC 14496-12 and 23000-22, AV1) may hold any number of frames of any size, of which one is shown.
As in `effort`, which calls this, what is damaged is left to the decoder.
"""

from typing import NamedTuple

from vit_edge.runtime.image.boxes import boxes_in, count_within
from vit_edge.runtime.image.too_much import TooMuch

_MOST_EXTENTS = 4096  # pieces that the items of an AVIF are put together of
_FRAMES_PER_LIMIT = 24  # times the pixel limit: how many pixels all AV1 frames together may have
_MOST_FRAMES = 500
_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6  # types of OBU


class Piece(NamedTuple):
    """A part of an item's data."""

    offset: int
    length: int
    inside: bool  # counted from the `idat` box, not from the file's beginning


def check_avif(data: bytes, max_pixels: int) -> None:
    """Items of coded frames.

    Raises:
        TooMuch: with the cause.
    """
    for kind, start, end in boxes_in(data, 0, len(data)):
        if kind == b"moov":
            raise TooMuch("is an animation, which is taken of GIF and WebP only")
        if kind == b"meta":
            _check_items(data, start + 4, end, max_pixels)


def _check_items(data: bytes, start: int, end: int, max_pixels: int) -> None:
    """Every coded item of a `meta` box."""
    coded, places = set[int](), dict[int, list[Piece]]()
    idat = 0
    for kind, first, last in boxes_in(data, start, end):
        if kind == b"iinf":
            coded |= _coded_items(data, first, last)
        elif kind == b"iloc":
            places |= _places(data[first:last])
        elif kind == b"idat":
            idat = first
        elif kind == b"iprp":
            count_within(data, first, last, b"ipco")
    if sum(piece.length for pieces in places.values() for piece in pieces) > 2 * len(data):
        raise TooMuch("has items that are together longer than the file")
    frames = pixels = 0
    for item in coded & places.keys():
        starts = [(idat if piece.inside else 0) + piece.offset for piece in places[item]]
        pieces = zip(starts, places[item], strict=True)
        found, area = _frames(b"".join(data[start : start + piece.length] for start, piece in pieces))
        frames, pixels = frames + found, pixels + found * area
    if frames > _MOST_FRAMES or pixels > _FRAMES_PER_LIMIT * max_pixels:
        raise TooMuch(f"holds {frames} frames of {pixels} pixels together, which no picture needs")


def _coded_items(data: bytes, start: int, end: int) -> set[int]:
    """The numbers of the items that are AV1."""
    found = set()
    count_size = 2 if data[start : start + 1] == b"\0" else 4
    for kind, first, _ in boxes_in(data, start + 4 + count_size, end):
        wide = data[first : first + 1] == b"\3"
        body = data[first + 4 : first + 4 + (10 if wide else 8)]
        if kind == b"infe" and body[-4:] == b"av01":
            found.add(int.from_bytes(body[: 4 if wide else 2], "big"))
    return found


def _places(body: bytes) -> dict[int, list[Piece]]:
    """Item -> its pieces, by an `iloc` box of version 0, 1 or 2."""
    reader = _Numbers(body)
    version = reader.take(4) >> 24
    sizes = reader.take(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    wide = 4 if version == 2 else 2
    found: dict[int, list[Piece]] = {}
    extents = 0
    for _ in range(reader.take(wide)):
        if reader.ended:
            break
        item = reader.take(wide)
        inside = version > 0 and reader.take(2) & 15 == 1
        reader.take(2)
        base = reader.take(base_size)
        pieces = found.setdefault(item, [])
        for _ in range(reader.take(2)):
            extents += 1
            if extents > _MOST_EXTENTS:
                raise TooMuch(f"is put together of more than {_MOST_EXTENTS} pieces")
            reader.take(index_size if version else 0)
            offset = base + reader.take(offset_size)
            pieces.append(Piece(offset, reader.take(length_size), inside))
    return found


class _Numbers:
    """Numbers one after another; zero behind the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    @property
    def ended(self) -> bool:
        """Whether nothing is left."""
        return self._position >= len(self._data)

    def take(self, size: int) -> int:
        """The next number of so many bytes."""
        self._position += size
        return int.from_bytes(self._data[self._position - size : self._position], "big")


def _frames(stream: bytes) -> tuple[int, int]:
    """(number of frames, pixels of the largest) in a sequence of OBUs (AV1 specification, 5.3)."""
    position, frames, area = 0, 0, 0
    while position < len(stream) and frames <= _MOST_FRAMES:
        head = stream[position]
        position += 2 if head & 4 else 1
        size = len(stream) - position
        if head & 2:
            size, position = _leb128(stream, position)
        kind = head >> 3 & 15
        if kind == _SEQUENCE_HEADER:
            area = max(area, _largest_frame(stream[position : min(position + size, position + 1024)]))
        frames += kind in (_FRAME_HEADER, _FRAME)
        position += size
    return frames, area


def _leb128(stream: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(stream[position : position + 8]):
        value |= (byte & 127) << (7 * index)
        position += 1
        if byte < 128:
            break
    return value, position


class _Bits:
    """Bits from the highest on; zeros behind the end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        """The next bits as a number."""
        self._left -= count
        shifted = self._value >> self._left if self._left >= 0 else self._value << -self._left
        return shifted & ((1 << count) - 1)

    def skip_uvlc(self) -> None:
        """A number of variable length."""
        zeros = 0
        while self._left > 0 and zeros < 32 and not self.take(1):
            zeros += 1
        self.take(zeros)


def _largest_frame(header: bytes) -> int:
    """Width times height of the largest frame that a sequence header allows (AV1 specification, 5.5.1)."""
    bits = _Bits(header)
    bits.take(4)
    if bits.take(1):  # reduced_still_picture_header
        bits.take(5)
    else:
        _skip_operating_points(bits)
    wide, high = bits.take(4) + 1, bits.take(4) + 1
    return (bits.take(wide) + 1) * (bits.take(high) + 1)


def _skip_operating_points(bits: _Bits) -> None:
    model, delay = 0, 0
    if bits.take(1):  # timing_info_present_flag
        bits.take(64)
        if bits.take(1):
            bits.skip_uvlc()
        model = bits.take(1)
        if model:
            delay = bits.take(5) + 1
            bits.take(42)
    display = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if model and bits.take(1):
            bits.take(2 * delay + 1)
        if display and bits.take(1):
            bits.take(4)
