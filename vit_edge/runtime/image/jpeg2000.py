"""What a JPEG 2000 file asks of its decoder beyond its pixels.

A picture (ITU-T T.800) is cut into tiles, resolutions, precincts, layers and code blocks, each of which a
decoder sets up whether there is data for it or not. As in `effort`, which calls this, what is damaged is left
to the decoder.
"""

import dataclasses
import struct
from collections.abc import Iterator

from vit_edge.runtime.image.boxes import boxes_in, count_within
from vit_edge.runtime.image.too_much import TooMuch

_MOST_MARKERS = 4096  # in the headers of a codestream
_MOST_TILES = 8192  # each takes 12 kB before anything is decoded
_MOST_PARTS = 65_536  # of tiles
_LEAST_PACKETS = 100_000  # that a picture of any size may have: tiles, components, precincts, layers
_PIXELS_PER_PACKET = 128  # of a larger one; an empty packet takes some microseconds
_MOST_BLOCKS = 2_000_000  # code blocks; each takes 100 bytes and more
_FREE_PIXELS = 2**24  # of a picture of nothing much: 320 MB while it is decoded
_PIXELS_PER_BYTE = 4096  # of a larger one; a photograph has fewer than 200, a blank page a few thousand
# Behind others OpenJPEG looks for the next marker it knows, whatever length they state.
_KNOWN = frozenset(
    {0x50, 0x51, 0x52, 0x53, 0x55, 0x57, 0x58, 0x5C, 0x5D, 0x5E, 0x5F, 0x60, 0x61, 0x63, 0x64}
    | {0x74, 0x75, 0x77, 0x78}
)
_SIZ, _COD, _COC, _POC, _SOT, _SOD, _EOC = 0xFF51, 0xFF52, 0xFF53, 0xFF5F, 0xFF90, 0xFF93, 0xFFD9
_LARGEST_PRECINCT = 15  # exponent


def check_jp2(data: bytes, _max_pixels: int) -> None:
    """Boxes around a codestream.

    Raises:
        TooMuch: with the cause.
    """
    for kind, start, end in boxes_in(data, 0, len(data)):
        if kind == b"jp2h":
            count_within(data, start, end, b"res ")
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
    cut.check(len(data))


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

    def check(self, stored: int) -> None:
        """Raise TooMuch where a decoder would set up more than any picture of so many bytes needs."""
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
        if pixels > _FREE_PIXELS and pixels > _PIXELS_PER_BYTE * stored:
            raise TooMuch(f"says that {stored} bytes are {pixels // 10**6} megapixels")


def _parts(length: int, exponent: int) -> int:
    """Into how many parts of that size a length is cut."""
    return -(-length >> exponent)
