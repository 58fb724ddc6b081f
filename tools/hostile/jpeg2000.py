"""JPEG 2000 that is cut too finely."""

import struct

from tools.hostile.parts import box, segment

JP2 = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")


def codestream(
    side: int, tile: int = 0, layers: int = 1, block: int = 4, precincts: bytes = b"", more: bytes = b""
) -> bytes:
    """The headers of a JPEG 2000 picture; no pixels."""
    edges = (side, side, 0, 0, tile or side, tile or side, 0, 0)
    size = segment(0x51, struct.pack(">H8IH", 0, *edges, 3) + b"\x07\1\1" * 3)
    return b"\xff\x4f" + size + coding_style(layers, block, precincts) + more


def coding_style(layers: int, block: int = 4, precincts: bytes = b"") -> bytes:
    """A COD segment; `precincts` are exponents, one byte for each of six resolutions."""
    body = struct.pack(">BBHBBBBBB", bool(precincts), 0, layers, 1, 5, block, block, 0, 1)
    return segment(0x52, body + precincts)


def tile_part(header: bytes) -> bytes:
    """A tile-part up to its pixels."""
    return segment(0x90, struct.pack(">HIBB", 0, 0, 0, 1)) + header + b"\xff\x93"


def finely_cut() -> dict[str, bytes]:
    """JPEG 2000 of a few hundred bytes that a decoder would make gigabytes or hours of."""
    return {
        "tiles_by_the_ten_thousand.j2k": codestream(255, tile=1),
        "megapixels_of_nothing.j2k": codestream(10_000),
        "layers_by_the_ten_thousand.j2k": codestream(4000, layers=65_535),
        "layers_in_a_tile.j2k": codestream(4000, tile=64, more=tile_part(coding_style(65_535))),
        "precincts_of_a_pixel.j2k": codestream(4000, precincts=bytes(6)),
        "orders_by_the_thousand.j2k": codestream(4000, tile=256, more=segment(0x5F, bytes(7 * 1000))),
        "blocks_by_the_million.jp2": JP2 + box(b"jp2c", codestream(9000, block=0)),
        "header_that_hides_another.j2k": codestream(4000, more=segment(0x30, coding_style(65_535))),
        "comments_by_the_thousand.j2k": codestream(16, more=segment(0x64, b"\0\1") * 5000),
        "boxes_by_the_thousand.jp2": JP2 + box(b"free") * 1100,
        "boxes_within_a_header.jp2": JP2 + box(b"jp2h", box(b"free") * 1100),
    }
