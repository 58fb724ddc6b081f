"""What images are made of: chunks, segments, boxes, headers."""

import io
import struct
import zlib

from PIL import Image

RED, BLUE = (255, 0, 0), (0, 0, 255)
PNG = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width: int, height: int, depth: int, colour: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *before: bytes) -> bytes:
    """A PNG file; colour 0 is grey, 2 RGB, 3 palette; the rows begin with their filter byte."""
    # Stored, not compressed: compressed bytes would depend on the version of zlib.
    return b"".join(
        [
            PNG,
            header(width, height, depth, colour),
            *before,
            chunk(b"IDAT", zlib.compress(rows, 0)),
            chunk(b"IEND", b""),
        ]
    )


def red_rows(width: int = 4, height: int = 3) -> bytes:
    return (b"\0" + bytes(RED) * width) * height


def encoded(image: Image.Image, form: str, save_all: bool = False, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, save_all=save_all, **options)
    return stream.getvalue()


def red(mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (16, 16), RED).convert(mode)


def bmp(width: int, height: int, pixels: bytes, bits: int = 24) -> bytes:
    information = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(pixels), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + information + pixels


def exif(entries: bytes, count: int) -> bytes:
    """An EXIF block, little endian, whose directory of that count refers to itself as the next one."""
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, count) + entries + struct.pack("<I", 8)


def orientation(value: int, kind: int = 3, count: int = 1) -> bytes:
    return struct.pack("<HHII", 0x0112, kind, count, value)


def segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", 2 + len(data)) + data


def box(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content
