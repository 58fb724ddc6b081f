"""Images that would keep a decoder busy for minutes, or take memory by the gigabyte; too long to keep."""

import struct

from tools.hostile.avif import many_frames
from tools.hostile.jpeg2000 import finely_cut
from tools.hostile.parts import bmp, chunk, encoded, exif, png, red, red_rows, segment


def directory(entries: int, length: int) -> bytes:
    """A TIFF directory of which every value is so many bytes of the block, all of them the same."""
    values = b"".join(struct.pack("<HHII", 1000 + index, 7, length, 8) for index in range(entries))
    return b"II*\0" + struct.pack("<IH", 8, entries) + values + bytes(4)


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def scans(count: int, side: int) -> bytes:
    """A progressive JPEG that claims so many pixels a side and goes over them so many times."""
    stream = encoded(red(), "JPEG", progressive=True)
    start, end = stream.index(b"\xff\xc2") + 5, stream.index(b"\xff\xda")
    last = stream.rindex(b"\xff\xda")
    head = stream[:start] + struct.pack(">HH", side, side) + stream[start + 4 : end]
    return head + stream[last:-2] * count + b"\xff\xd9"


def laborious() -> dict[str, bytes]:
    """All of them, of every format."""
    jpeg = encoded(red(), "JPEG")
    good = webp((b"VP8L", encoded(red(), "WEBP", lossless=True)[20:]))
    palette = b"GIF89a" + struct.pack("<HHBBB", 4, 3, 0, 0, 0)
    pipe = b"\x21\xfe" + b"\x01c" * 5000 + b"\0"
    strips = struct.pack("<HHII", 273, 4, 5_000_000, 26)
    return {
        "scans_over_81_megapixels.jpg": scans(60, 9000),
        "scans_by_the_hundred.jpg": scans(600, 16),
        "comments_by_the_thousand.jpg": jpeg[:2] + segment(0xFE, b"") * 5000 + jpeg[2:],
        "reserved_by_the_thousand.jpg": jpeg[:2] + segment(0xF0, segment(0xFE, b"") * 5000) + jpeg[2:],
        "comments_behind_the_end.jpg": jpeg[:2] + b"\xff\xd9" + segment(0xFE, b"") * 5000 + jpeg[2:],
        "filling.jpg": jpeg[:2] + b"\xff" * 70_000 + jpeg[2:],
        "junk.jpg": jpeg[:2] + b"a" * 70_000 + jpeg[2:],
        "exif_by_the_dozen.jpg": jpeg[:2] + segment(0xE1, exif(b"", 0)) * 20 + jpeg[2:],
        "exif_of_gigabytes.jpg": jpeg[:2] + segment(0xE1, b"Exif\0\0" + directory(5000, 60_000)) + jpeg[2:],
        "pictures_of_gigabytes.jpg": jpeg[:2] + segment(0xE2, b"MPF\0" + directory(5000, 60_000)) + jpeg[2:],
        "chunks_by_the_ten_thousand.png": png(4, 3, 8, 2, red_rows(), chunk(b"IDAT", b"") * 66_000),
        "notes_by_the_thousand.png": png(4, 3, 8, 2, red_rows(), chunk(b"gAMA", bytes(4)) * 1100),
        "exif_of_gigabytes.png": png(4, 3, 8, 2, red_rows(), chunk(b"eXIf", directory(5000, 60_000))),
        "frames_by_the_ten_thousand.webp": good + (b"ANMF" + bytes(4)) * 11_000,
        "exif_of_gigabytes.webp": webp((b"VP8L", b""), (b"EXIF", directory(5000, 60_000))),
        "comment_in_blocks.gif": palette + pipe,
        "comments_by_the_thousand.gif": palette + b"\x21\xfe\0" * 5000,
        "runs_of_16_megapixels.bmp": bmp(4000, 4000, b"\0\0" * 100)[:30] + b"\1\0\0\0" + bytes(100),
        "digits.ppm": b"P3 9000 9000 255 " + b"1 " * 5_000_000,
        "comment.ppm": b"P6 #" + b"a" * 70_000 + b"\n4 3 255 " + bytes(36),
        "directory_of_gigabytes.tif": directory(5000, 60_000) + bytes(60_000),
        "exif_of_gigabytes.tif": b"II*\0"
        + struct.pack("<IHHHIII", 8, 1, 34665, 4, 1, 26, 0)
        + struct.pack("<H", 5000)
        + struct.pack("<HHII", 1, 7, 60_000, 8) * 5000,
        "strips_by_the_million.tif": b"II*\0" + struct.pack("<IH", 8, 1) + strips + bytes(20_000_004),
        **finely_cut(),
        **many_frames(),
    }
