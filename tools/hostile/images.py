"""Images, each small enough to keep."""

import struct
import zlib

from PIL import Image

from tools.hostile.parts import (
    BLUE,
    PNG,
    RED,
    bmp,
    chunk,
    encoded,
    exif,
    header,
    orientation,
    png,
    red,
    red_rows,
)


def zeros(megabytes: int) -> bytes:
    """Deflated zeros; a thousandth of what they become."""
    packer = zlib.compressobj(9)
    block = bytes(2**20)
    return b"".join(packer.compress(block) for _ in range(megabytes)) + packer.flush()


def animated_png() -> bytes:
    """Two frames, red and then blue, by the APNG extension."""
    frame = struct.pack(">IIIIHHBB", 4, 3, 0, 0, 1, 10, 0, 0)
    second = zlib.compress((b"\0" + bytes(BLUE) * 4) * 3, 0)
    return b"".join(
        [
            PNG,
            header(4, 3, 8, 2),
            chunk(b"acTL", struct.pack(">II", 2, 0)),
            chunk(b"fcTL", struct.pack(">I", 0) + frame),
            chunk(b"IDAT", zlib.compress(red_rows(), 0)),
            chunk(b"fcTL", struct.pack(">I", 1) + frame),
            chunk(b"fdAT", struct.pack(">I", 2) + second),
            chunk(b"IEND", b""),
        ]
    )


def jpeg_of_size(width: int, height: int) -> bytes:
    """A JPEG whose frame header claims another size."""
    data = bytearray(encoded(red(), "JPEG"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def zip_archive() -> bytes:
    """An empty ZIP archive."""
    return b"PK\x05\x06" + bytes(18)


def images() -> dict[str, bytes]:
    good = png(4, 3, 8, 2, red_rows())
    jpeg, webp = encoded(red(), "JPEG"), encoded(red(), "WEBP", lossless=True)
    grey16 = png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 0x80FF, 0xFFFF))
    palette = chunk(b"PLTE", bytes(RED + BLUE))
    blue = Image.new("RGB", (16, 16), BLUE)
    return {
        "bomb_by_header.png": png(50_000, 50_000, 1, 0, b"\0"),
        "bomb_below_pillows_limit.png": png(12_000, 12_000, 1, 0, b"\0"),
        "bomb_in_data.png": _with_idat(zeros(16)),
        "bomb_in_text.png": png(4, 3, 8, 2, red_rows(), chunk(b"zTXt", b"note\0\0" + zeros(16))),
        "bomb_in_profile.png": png(4, 3, 8, 2, red_rows(), chunk(b"iCCP", b"icc\0\0" + zeros(16))),
        "size_beyond_the_format.png": png(2**32 - 1, 2**32 - 1, 8, 2, b"\0"),
        "size_of_zero.png": png(0, 3, 8, 2, b"\0"),
        "size_of_zero.bmp": bmp(0, 0, b""),
        "size_65535.jpg": jpeg_of_size(65_535, 65_535),
        "size_of_zero.jpg": jpeg_of_size(0, 0),
        "size_beyond_the_data.bmp": bmp(4_000, 4_000, bytes(12)),
        "size_beyond_any_memory.bmp": bmp(2**31 - 1, 2**31 - 1, bytes(12)),
        "size_smallest_negative.bmp": bmp(4, -(2**31), bytes(12)),
        "top_down.bmp": bmp(4, -1, bytes(BLUE) * 4),
        "truncated.png": good[:60],
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "truncated.webp": webp[: len(webp) // 2],
        "only_a_signature.png": PNG,
        "only_a_signature.jpg": b"\xff\xd8\xff",
        "wrong_checksum.png": good[:29] + b"\0\0\0\0" + good[33:],
        "chunk_longer_than_the_file.png": PNG + struct.pack(">I", 2**31 - 1) + b"IHDR" + bytes(20),
        "chunks_without_a_header.png": PNG + chunk(b"IDAT", b"") + chunk(b"IEND", b""),
        "unknown_depth.png": png(4, 3, 7, 2, red_rows()),
        "palette_too_short.png": png(2, 1, 8, 3, b"\0\0\xff", palette),
        "palette_with_alpha.png": png(2, 1, 8, 3, b"\0\0\1", palette, chunk(b"tRNS", b"\x00\x80")),
        "grey_of_16_bits.png": grey16,
        "rgb_of_16_bits.png": png(1, 1, 16, 2, b"\0" + struct.pack(">HHH", 0xFF00, 0x00FF, 0x8000)),
        "cmyk.jpg": encoded(red("CMYK"), "JPEG"),
        "grey.jpg": encoded(red("L"), "JPEG"),
        "animated.png": animated_png(),
        "animated.webp": encoded(red(), "WEBP", save_all=True, append_images=[blue], lossless=True),
        "animated.gif": encoded(red(), "GIF", save_all=True, append_images=[blue]),
        "exif_loop.jpg": encoded(red(), "JPEG", exif=exif(orientation(1), 1)),
        "exif_orientation_65535.jpg": encoded(red(), "JPEG", exif=exif(orientation(65_535), 1)),
        "exif_orientation_as_text.jpg": encoded(red(), "JPEG", exif=exif(orientation(0x31, 2, 2), 1)),
        "exif_orientation_a_billion_times.jpg": encoded(
            red(), "JPEG", exif=exif(orientation(8, 3, 10**9), 1)
        ),
        "exif_count_65535.jpg": encoded(red(), "JPEG", exif=exif(orientation(1), 65_535)),
        "exif_of_noise.png": png(4, 3, 8, 2, red_rows(), chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff" * 3)),
        "polyglot_jpeg_then_zip.jpg": jpeg + zip_archive(),
        "polyglot_zip_then_jpeg.jpg": zip_archive() + jpeg,
        "polyglot_png_with_script.png": png(
            4, 3, 8, 2, red_rows(), chunk(b"tEXt", b"Comment\0<script>alert(1)</script>")
        ),
        "png_named.jpg": good,
        "text_named.png": b"I am no image.\n",
        "page_named.jpg": b"<!DOCTYPE html><title>404 Not Found</title>\n",
        "vector_named.png": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "postscript_named.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n(/etc/passwd) (r) file\n",
        "empty.png": b"",
    }


def _with_idat(data: bytes) -> bytes:
    return PNG + header(4, 3, 8, 2) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
