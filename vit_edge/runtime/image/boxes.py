"""What a JPEG 2000 or AVIF file asks of its decoder beyond its pixels; both are made of boxes.

JPEG 2000 (ITU-T T.800): a picture is cut into tiles, resolutions, precincts, layers and code blocks, each of
which a decoder sets up whether there is data for it or not. AVIF (ISO/IEC 14496-12 and 23000-22, AV1): an
item may hold any number of frames of any size, of which one is shown.

As in `effort`, which calls this, what is damaged is left to the decoder.
"""

import dataclasses
import struct
from collections.abc import Iterator
from typing import NamedTuple

from vit_edge.runtime.image.too_much import TooMuch

_MOST_BOXES = 1000  # within one another or one after another; Pillow goes through them in Python
_MOST_MARKERS = 4096  # in the headers of a codestream
_MOST_TILES = 8192  # each takes 12 kB before anything is decoded
_MOST_PARTS = 65_536  # of tiles
_LEAST_PACKETS = 100_000  # that a picture of any size may have: tiles, components, precincts, layers
_PIXELS_PER_PACKET = 128  # of a larger one; an empty packet takes some microseconds
_MOST_BLOCKS = 2_000_000  # code blocks; each takes 100 bytes and more
_MOST_EXTENTS = 4096  # pieces that the items of an AVIF are put together of
_FRAMES_PER_LIMIT = 24  # times the pixel limit: how many pixels all AV1 frames together may have
_MOST_FRAMES = 500

# Behind others OpenJPEG looks for the next marker it knows, whatever length they state.
_KNOWN = frozenset(
    {0x50, 0x51, 0x52, 0x53, 0x55, 0x57, 0x58, 0x5C, 0x5D, 0x5E, 0x5F, 0x60, 0x61, 0x63, 0x64}
    | {0x74, 0x75, 0x77, 0x78}
)
_SIZ, _COD, _COC, _POC, _SOT, _SOD, _EOC = 0xFF51, 0xFF52, 0xFF53, 0xFF5F, 0xFF90, 0xFF93, 0xFFD9
_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6  # types of OBU
_LARGEST_PRECINCT = 15  # exponent

Box = tuple[bytes, int, int]  # (type, where its content starts, where it ends)


class Piece(NamedTuple):
    """A part of an item's data."""

    offset: int
    length: int
    inside: bool  # counted from the `idat` box, not from the file's beginning


def check_jp2(data: bytes, _max_pixels: int) -> None:
    """Boxes around a codestream.

    Raises:
        TooMuch: with the cause.
    """
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"jp2h":
            _count_within(data, start, end, b"res ")
        elif kind == b"jp2c":
            check_codestream(data[start:end], _max_pixels)


def check_codestream(data: bytes, _max_pixels: int) -> None:
    """A bare codestream.

    Raises:
        TooMuch: with the cause.
    """
    cut = _Cut()
    for marker, body in _markers(data):
        if marker == _SIZ and len(body) >= 36:
            cut.size(body)
        elif marker == _COD and len(body) >= 10:
            cut.layers = max(cut.layers, int.from_bytes(body[2:4], "big"))
            cut.style(body[5:], body[0] & 1)
        elif marker == _COC and len(body) >= 7:
            cut.style(body[2:], body[1] & 1)
        elif marker == _POC:
            cut.orders += len(body) // 7
    cut.check()


def check_avif(data: bytes, max_pixels: int) -> None:
    """Items of coded frames.

    Raises:
        TooMuch: with the cause.
    """
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"moov":
            raise TooMuch("is an animation, which is taken of GIF and WebP only")
        if kind == b"meta":
            _check_items(data, start + 4, end, max_pixels)


def _boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    count = 0
    while start + 8 <= end:
        size, kind = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        content = start + 8
        if size == 1:
            size, content = int.from_bytes(data[content : content + 8], "big"), content + 8
        elif size == 0:
            size = end - start
        if start + size < content:
            return
        count += 1
        if count > _MOST_BOXES:
            raise TooMuch(f"has more than {_MOST_BOXES} boxes")
        yield kind, content, min(start + size, end)
        start += size


def _count_within(data: bytes, start: int, end: int, wanted: bytes) -> None:
    """Refuse too many boxes within a box, or within those of one kind in it."""
    for kind, first, last in _boxes(data, start, end):
        if kind == wanted:
            list(_boxes(data, first, last))


# JPEG 2000


def _markers(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, what follows its length) of the main header and of every tile-part's."""
    position, count, parts, part_ends = 2, 0, 0, 0
    while position + 4 <= len(data):
        marker, length = struct.unpack_from(">HH", data, position)
        if marker == _EOC:
            return
        if marker == _SOD:  # coded pixels up to the end of the tile-part
            if part_ends <= position:
                return
            position = part_ends
            continue
        if length < 2:
            return
        body = data[position + 4 : position + 2 + length]
        if marker == _SOT:
            parts += 1
            stated = int.from_bytes(body[2:6], "big")
            part_ends = position + stated if stated else len(data)
        elif marker & 0xFF in _KNOWN and marker >> 8 == 0xFF:
            count += 1
            yield marker, body
        else:
            raise TooMuch(f"has a part in its header that no JPEG 2000 has ({marker:04x})")
        if count > _MOST_MARKERS or parts > _MOST_PARTS:
            raise TooMuch(
                f"has more than {_MOST_MARKERS} parts in its headers, or {_MOST_PARTS} parts of tiles"
            )
        position += 2 + length


@dataclasses.dataclass
class _Cut:
    """How finely a picture is cut; of what several headers say, the finest."""

    width: int = 0
    height: int = 0
    tile: tuple[int, int] = (1, 1)
    components: int = 1
    layers: int = 1
    levels: int = 0
    precinct: tuple[int, int] = (_LARGEST_PRECINCT, _LARGEST_PRECINCT)  # exponents (width, height)
    block: int = 12  # sum of both exponents of a code block
    orders: int = 1  # of progression

    def size(self, body: bytes) -> None:
        """SIZ."""
        x, y, left, top, tile_x, tile_y = struct.unpack_from(">6I", body, 2)
        self.width, self.height = max(self.width, x - left), max(self.height, y - top)
        self.tile = (max(tile_x, 1), max(tile_y, 1))
        self.components = max(self.components, int.from_bytes(body[34:36], "big"))

    def style(self, body: bytes, has_precincts: int) -> None:
        """The part that COD and COC share: levels, code blocks, and precincts where they are stated."""
        self.levels = max(self.levels, min(body[0], 32))
        self.block = min(self.block, (body[1] & 15) + (body[2] & 15) + 4)
        stated = body[5 : 6 + body[0]] if has_precincts else b""
        wide, high = self.precinct
        self.precinct = (
            min([wide, *(each & 15 for each in stated)]),
            min([high, *(each >> 4 for each in stated)]),
        )

    def check(self) -> None:
        """Raise TooMuch where a decoder would set up more than any picture needs."""
        tiles = -(-self.width // self.tile[0]) * -(-self.height // self.tile[1])
        if tiles > _MOST_TILES:
            raise TooMuch(f"is cut into more than {_MOST_TILES} tiles")
        tile_x, tile_y = min(self.tile[0], self.width), min(self.tile[1], self.height)
        precincts = sum(
            _parts(tile_x, level + self.precinct[0]) * _parts(tile_y, level + self.precinct[1])
            for level in range(self.levels + 1)
        )
        pixels = self.width * self.height
        packets = tiles * self.components * self.layers * self.orders * precincts
        if packets > _LEAST_PACKETS + pixels // _PIXELS_PER_PACKET:
            raise TooMuch(f"is cut into {packets} packets, which no encoder does")
        blocks = (pixels * self.components >> self.block) * 4 // 3
        if blocks > _MOST_BLOCKS:
            raise TooMuch(f"is cut into more than {_MOST_BLOCKS} code blocks")


def _parts(length: int, exponent: int) -> int:
    """Into how many parts of that size a length is cut."""
    return -(-length >> exponent)


# AVIF


def _check_items(data: bytes, start: int, end: int, max_pixels: int) -> None:
    """Every coded item of a `meta` box."""
    coded, places = set[int](), dict[int, list[Piece]]()
    idat = 0
    for kind, first, last in _boxes(data, start, end):
        if kind == b"iinf":
            coded |= _coded_items(data, first, last)
        elif kind == b"iloc":
            places |= _places(data[first:last])
        elif kind == b"idat":
            idat = first
        elif kind == b"iprp":
            _count_within(data, first, last, b"ipco")
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
    for kind, first, _ in _boxes(data, start + 4 + count_size, end):
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
