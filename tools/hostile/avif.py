"""AVIF that holds more than its size tells."""

import struct

from tools.hostile.parts import box


def unit(kind: int, content: bytes) -> bytes:
    """An OBU of AV1 of less than 128 bytes."""
    return bytes([kind << 3 | 2, len(content)]) + content


# A reduced header of a still picture of 65536 x 65536 pixels, and one of 16 x 16.
GIGAPIXELS = unit(1, (0b000_1_1_00000_1111_1111 << 46 | (1 << 32) - 1 << 14).to_bytes(8, "big"))
SMALL = unit(1, (0b000_1_1_00000_0011_0011_1111_1111 << 38).to_bytes(8, "big"))


def avif(units: bytes, extents: int = 1, inside: bool = False, length: int | None = None) -> bytes:
    """A file with one coded item; `inside`: it lies in the box `idat`."""
    information = box(b"infe", b"\2\0\0\0" + struct.pack(">HH", 1, 0) + b"av01\0")
    items = box(b"iinf", b"\0\0\0\0\0\1" + information)

    def located(offset: int) -> bytes:
        pieces = struct.pack(">II", offset, len(units) if length is None else length) * extents
        place = struct.pack(">IHHHHHH", 1 << 24, 0x4400, 1, 1, int(inside), 0, extents) + pieces
        rest = box(b"idat", units) if inside else b""
        meta = box(b"meta", bytes(4) + items + box(b"iloc", place) + rest)
        return box(b"ftyp", b"avif\0\0\0\0avifmif1") + meta

    return located(0) if inside else located(len(located(0)) + 8) + box(b"mdat", units)


def many_frames() -> dict[str, bytes]:
    """AVIF of a few thousand bytes that holds pictures by the gigapixel."""
    return {
        "frames_by_the_hundred.avif": avif(SMALL + unit(6, b"x") * 600),
        "frames_inside.avif": avif(SMALL + unit(3, b"x") * 600, inside=True),
        "frame_of_gigapixels.avif": avif(GIGAPIXELS + unit(6, b"x")),
        "pieces_by_the_thousand.avif": avif(SMALL, extents=5000),
        "items_of_gigabytes.avif": avif(SMALL, length=2**31),
        "animation.avif": box(b"ftyp", b"avis\0\0\0\0avis") + box(b"moov"),
        "boxes_by_the_thousand.avif": box(b"ftyp", b"avif\0\0\0\0") + box(b"free") * 1100,
        "items_by_the_thousand.avif": box(b"ftyp", b"avif\0\0\0\0")
        + box(b"meta", bytes(4) + box(b"iinf", bytes(6) + box(b"infe") * 1100)),
        "properties_by_the_thousand.avif": box(b"ftyp", b"avif\0\0\0\0")
        + box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", box(b"free") * 1100))),
    }
