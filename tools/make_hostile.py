"""Make the hostile files in tests/device/hostile: images, models, manifests and targets that want to do harm.

Usage: python -m tools.make_hostile [FOLDER]

Each is small, and made from nothing but what is below and tests/data/dynamic.onnx. What Pillow encodes (JPEG,
WebP, GIF) and what is deflated (bomb_in_*) depends on the version of a library; every other file is
reproduced byte for byte.
"""

import io
import json
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = ROOT / "tests" / "device" / "hostile"

RED, BLUE = (255, 0, 0), (0, 0, 255)
PNG = b"\x89PNG\r\n\x1a\n"


# Images


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


def bmp(width: int, height: int, pixels: bytes, bits: int = 24) -> bytes:
    information = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(pixels), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + information + pixels


def jpeg_of_size(width: int, height: int) -> bytes:
    """A JPEG whose frame header claims another size."""
    data = bytearray(encoded(red(), "JPEG"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def exif(entries: bytes, count: int) -> bytes:
    """An EXIF block, little endian, whose directory of that count refers to itself as the next one."""
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, count) + entries + struct.pack("<I", 8)


def orientation(value: int, kind: int = 3, count: int = 1) -> bytes:
    return struct.pack("<HHII", 0x0112, kind, count, value)


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


def directory(entries: int, length: int) -> bytes:
    """A TIFF directory of which every value is so many bytes of the block, all of them the same."""
    values = b"".join(struct.pack("<HHII", 1000 + index, 7, length, 8) for index in range(entries))
    return b"II*\0" + struct.pack("<IH", 8, entries) + values + bytes(4)


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", 2 + len(data)) + data


def scans(count: int, side: int) -> bytes:
    """A progressive JPEG that claims so many pixels a side and goes over them so many times."""
    stream = encoded(red(), "JPEG", progressive=True)
    start, end = stream.index(b"\xff\xc2") + 5, stream.index(b"\xff\xda")
    last = stream.rindex(b"\xff\xda")
    head = stream[:start] + struct.pack(">HH", side, side) + stream[start + 4 : end]
    return head + stream[last:-2] * count + b"\xff\xd9"


def laborious() -> dict[str, bytes]:
    """Files that would keep a decoder busy for minutes, or take memory by the gigabyte; too long to keep."""
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
        **_finely_cut(),
        **_many_frames(),
    }


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


def box(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


JP2 = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")


def _finely_cut() -> dict[str, bytes]:
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


def _many_frames() -> dict[str, bytes]:
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


def _with_idat(data: bytes) -> bytes:
    return PNG + header(4, 3, 8, 2) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


# Models: protobuf by hand, as no writer would make these


def varint(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*result, value])


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor_info(name: bytes, kind: int, dims: tuple[int | bytes, ...]) -> bytes:
    """A ValueInfoProto; a dimension is a number or a symbol."""
    shape = b"".join(field(1, field(1 if isinstance(dim, int) else 2, dim)) for dim in dims)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, shape)))


INPUT = tensor_info(b"pixel_values", 1, (b"N", 3, 8, 8))
OUTPUT = tensor_info(b"logits", 1, (b"N", 3))


def graph(*parts: bytes, image: bytes = INPUT, output: bytes = OUTPUT) -> bytes:
    return b"".join(parts) + field(11, image) + field(12, output)


def model(body: bytes, *more: bytes) -> bytes:
    return field(1, 10) + field(8, field(2, 20)) + field(7, body) + b"".join(more)


def node(op_type: bytes, *inputs: bytes, domain: bytes = b"", output: bytes = b"logits") -> bytes:
    names = b"".join(field(1, name) for name in inputs)
    return field(1, names + field(2, output) + field(4, op_type) + field(7, domain))


def nested(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = field(1, field(5, field(6, inner)))
    return model(inner)


def runnable(body: bytes, *parts: bytes) -> bytes:
    """A model that says how its input is normalised, so that onnxruntime gets to see it."""
    spec = json.dumps(manifest()["preprocess"]).encode()
    return model(body, field(14, field(1, b"vit_edge.preprocess") + field(2, spec)), *parts)


def constant_bomb() -> bytes:
    """Four terabytes of zeros, asked for by one node."""
    shape = field(1, 1) + field(2, 7) + field(8, b"shape") + field(9, struct.pack("<q", 2**40))
    return runnable(
        graph(
            field(5, shape),
            node(b"ConstantOfShape", b"shape", output=b"bomb"),
            node(b"Add", b"bomb", b"bomb"),
        )
    )


def node_of(op_type: bytes, *parts: bytes) -> bytes:
    return field(1, field(4, op_type) + b"".join(parts))


def function(name: bytes, *calls: bytes) -> bytes:
    body = b"".join(field(7, field(4, call) + field(7, b"local")) for call in calls)
    return field(25, field(1, name) + body + field(10, b"local"))


def functions(depth: int) -> bytes:
    """Each function calls the one before it twice: two to that power of nodes."""
    doubled = [
        function(b"f%d" % level, b"f%d" % (level - 1), b"f%d" % (level - 1)) for level in range(1, depth)
    ]
    return model(graph(node(b"f%d" % (depth - 1), domain=b"local")), function(b"f0", b"Abs"), *doubled)


def loop(turns: int, *parts: bytes) -> bytes:
    """A Loop of so many turns that does nothing in each, and more parts of the file."""
    info = tensor_info(b"i", 7, ()), tensor_info(b"c", 9, ())
    body = (
        field(1, field(1, b"c") + field(2, b"d") + field(4, b"Identity"))
        + b"".join(field(11, each) for each in info)
        + field(12, tensor_info(b"d", 9, ()))
    )
    count = field(2, 7) + field(8, b"turns") + field(9, struct.pack("<q", turns))
    attribute = field(5, field(1, b"body") + field(6, body) + field(20, 5))
    return runnable(
        graph(field(5, count), node_of(b"Loop", field(1, b"turns"), field(1, b""), attribute)), *parts
    )


def context(embedded: int) -> bytes:
    """A compiled part; where it is not embedded, its value is the path of a file."""
    attributes = field(5, field(1, b"embed_mode") + field(3, embedded) + field(20, 2)) + field(
        5, field(1, b"ep_cache_context") + field(4, b"/etc/passwd") + field(20, 3)
    )
    return model(graph(node_of(b"EPContext", attributes, field(7, b"com.microsoft"))))


EXTERNAL = field(8, b"w") + field(13, field(1, b"location") + field(2, b"/etc/passwd")) + field(14, 1)


def models() -> dict[str, bytes]:
    good = (ROOT / "tests" / "data" / "dynamic.onnx").read_bytes()
    hidden_key = varint((13 << 3 | 2) + 2**32)  # protobuf readers that drop the high bits see field 13
    location = field(1, b"location") + field(2, b"/etc/passwd")
    hidden = field(8, b"w") + hidden_key + varint(len(location)) + location + field(14, 2**32 + 1)
    absurd = field(1, 2**40) + field(2, 1) + field(8, b"w")
    wide = tensor_info(b"pixel_values", 1, (b"N", 3, 2**31, 2**31))
    negative = tensor_info(b"pixel_values", 1, (b"N", 3, 2**64 - 8, 8))
    return {
        "external_data.onnx": model(graph(field(5, EXTERNAL))),
        "external_data_behind_an_overlong_key.onnx": model(graph(field(5, hidden))),
        "external_data_in_a_function.onnx": model(
            graph(), field(25, field(1, b"f") + field(7, field(5, field(5, EXTERNAL))))
        ),
        "custom_domain.onnx": model(graph(node(b"Run", b"pixel_values", domain=b"evil.example"))),
        "compiled_context.onnx": model(graph(node(b"EPContext", b"pixel_values", domain=b"com.microsoft"))),
        "input_of_exabytes.onnx": model(graph(image=wide)),
        "input_of_negative_size.onnx": model(graph(image=negative)),
        "batch_of_billions.onnx": model(graph(image=tensor_info(b"pixel_values", 1, (2**31, 3, 8, 8)))),
        "classes_by_the_billion.onnx": model(graph(output=tensor_info(b"logits", 1, (b"N", 2**40)))),
        "weight_without_its_values.onnx": runnable(graph(field(5, absurd), node(b"Add", b"w", b"w"))),
        "constant_of_terabytes.onnx": constant_bomb(),
        "nested_graphs.onnx": nested(40),
        "loop_of_a_trillion_turns.onnx": loop(2**40),
        "loop_behind_a_function_of_its_name.onnx": loop(2**40, field(25, field(1, b"Loop"))),
        "context_behind_a_function_of_its_name.onnx": model(
            graph(node(b"EPContext", b"pixel_values", domain=b"com.microsoft")),
            field(25, field(1, b"EPContext") + field(10, b"com.microsoft")),
        ),
        "functions_that_double.onnx": functions(60),
        "functions_in_a_circle.onnx": model(
            graph(node(b"a", domain=b"local")), function(b"a", b"b"), function(b"b", b"a")
        ),
        "compiled_context_in_another_file.onnx": context(0),
        "graph_that_needs_itself.onnx": runnable(graph(node(b"Identity", b"logits"))),
        "endless_number.onnx": b"\x80" * 64,
        "field_longer_than_the_file.onnx": field(1, 10) + b"\x3a" + varint(2**31 - 1),
        "no_graph.onnx": field(1, 10),
        "zip.onnx": zip_archive() + bytes(64),
        "runtime_format.onnx": b"\x20\0\0\0ORTM" + bytes(56),
        "also_looks_like_runtime_format.onnx": b"\x12\x06abORTM" + good,
    }


# Manifests


def manifest() -> dict[str, object]:
    """A good one, of a bundle with one model."""
    entry = {"sha256": "0" * 64, "size": 1, "role": "float"}
    preprocess = {
        "height": 8,
        "width": 8,
        "resize_mode": "none",
        "resize": [8, 8],
        "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    }
    return {
        "files": {"onnx/model.onnx": entry},
        "default_model": "onnx/model.onnx",
        "preprocess": preprocess,
        "source": {"name": "example", "sha256": "0" * 64},
        "tools": {},
        "quantization": None,
        "layers": [],
        "accuracy": None,
        "latency": [],
        "providers": {},
        "format_version": 1,
    }


def text(**changes: object) -> bytes:
    return json.dumps(manifest() | changes, indent=1).encode()


def manifests() -> dict[str, bytes]:
    good = text()
    entry = {"sha256": "0" * 64, "size": 1, "role": "float"}
    digits = b"9" * 400
    return {
        "good.json": good,
        "from_the_future.json": text(format_version=2),
        "from_the_far_future.json": text(format_version=10**4000, anything={"new": True}),
        "path_up.json": text(files={"../../../etc/passwd": entry}),
        "path_absolute.json": text(files={"/etc/passwd": entry}),
        "path_of_another_system.json": text(files={"C:\\windows\\win.ini": entry}),
        "path_with_a_null.json": text(files={"onnx/\0model.onnx": entry}),
        "path_of_a_megabyte.json": text(files={"a" * 2**14: entry}),
        "manifest_lists_itself.json": text(files={"vit_edge.json": entry}),
        "number_beyond_a_float.json": text(providers={"CPUExecutionProvider": 0}).replace(
            b": 0\n", b": " + digits + b"\n"
        ),
        "mean_beyond_a_float.json": good.replace(b"0.5", digits, 1),
        "number_of_5000_digits.json": good.replace(
            b'"format_version": 1', b'"format_version": ' + b"9" * 5000
        ),
        "infinity.json": good.replace(b'"accuracy": null', b'"accuracy": Infinity'),
        "infinity_by_exponent.json": good.replace(
            b'"accuracy": null', b'"accuracy": {"verdict": "PASS", "n": 1e999}'
        ),
        "not_a_number.json": good.replace(b'"accuracy": null', b'"accuracy": NaN'),
        "key_twice.json": good.replace(b'"tools": {}', b'"tools": {}, "tools": {}'),
        "nested_20000_deep.json": b"[" * 20_000,
        "nested_500_deep.json": good.replace(b'"layers": []', b'"layers": ' + b"[" * 500 + b"]" * 500),
        "nested_in_recipe.json": good.replace(
            b'"quantization": null', b'"quantization": ' + b'{"a":' * 100 + b"1" + b"}" * 100
        ),
        "half_a_character.json": text(default_model="\ud800"),
        "byte_order_mark.json": b"\xef\xbb\xbf" + good,
        "utf_16.json": good.decode().encode("utf-16"),
        "text_after_the_end.json": good + b"{}",
        "list.json": b"[]",
        "nothing.json": b"",
        "files_as_text.json": text(files="onnx/model.onnx"),
        "size_as_text.json": text(files={"onnx/model.onnx": entry | {"size": "1"}}),
        "size_of_exabytes.json": text(files={"onnx/model.onnx": entry | {"size": 2**60}}),
        "role_as_list.json": text(files={"onnx/model.onnx": entry | {"role": ["float"]}}),
        "accuracy_of_a_verdict_alone.json": text(accuracy={"verdict": {}}),
        "interpolation_as_list.json": good.replace(b'"bicubic"', b"[]"),
        "deviation_of_zero.json": text(preprocess={**_preprocess(), "std": [0, 1, 1]}),
        "picture_of_gigapixels.json": text(preprocess={**_preprocess(), "height": 10**6, "width": 10**6}),
        "true_for_a_number.json": text(preprocess={**_preprocess(), "height": True}),
    }


def _preprocess() -> dict[str, object]:
    raw = manifest()["preprocess"]
    assert isinstance(raw, dict)  # noqa: S101  as written above
    return raw


# Targets


def target(changes: bytes) -> bytes:
    """A board that would be a good one but for the changes."""
    head = b'inherits = "cpu"\ntitle = "A board"\ndescription = "A board."\n'
    return head + changes + b'\n[[verification]]\nstate = "unverified"\nwhat = "nothing"\n'


def targets() -> dict[str, bytes]:
    return {
        "unknown_key.toml": target(b'shell = "rm -rf /"'),
        "inherits_a_path.toml": b'inherits = "../../../etc/passwd"\n',
        "inherits_itself.toml": b'inherits = "inherits_itself"\n',
        "inherits_a_number.toml": b"inherits = " + b"7" * 4000 + b"\n",
        "inherits_a_name_of_4000_letters.toml": b'inherits = "' + b"a" * 4000 + b'"\n',
        "nested.toml": target(b"requires = " + b"[" * 2000 + b"]" * 2000),
        "keys_nested.toml": target(b"session_options" + b".a" * 2000 + b" = 1"),
        "keys_that_take_tomllib_long.toml": target(b"session_options" + b".a" * 30_000 + b" = 1"),
        "number_of_5000_digits.toml": target(b"weight_bits = " + b"9" * 5000),
        "number_of_4000_digits.toml": target(b"weight_bits = " + b"9" * 4000),
        "not_a_number.toml": target(b"weight_bits = nan"),
        "date_for_a_number.toml": target(b"weight_bits = 1979-05-27"),
        "session_option_of_a_library.toml": target(
            b'[session_options]\n"session.load_custom_op_library" = "/tmp/evil.so"'
        ),
        "latin_1.toml": target("# K\xe4se".encode("latin-1")),
        "larger_than_any_target.toml": b"# " + b"x" * 16_384 + b"\n",
        "empty.toml": b"",
    }


KINDS: dict[str, Callable[[], dict[str, bytes]]] = {
    "images": images,
    "models": models,
    "manifests": manifests,
    "targets": targets,
}


def main(folder: Path) -> None:
    for kind, make in KINDS.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name, data in make().items():
            (folder / kind / name).write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT)
