"""One image costs bounded time and memory before it is refused, whatever it holds.

tools/hostile makes the files and says what each one tries.
"""

import contextlib
import io
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tools.hostile.avif import SMALL, avif, unit
from tools.hostile.jpeg2000 import codestream
from tools.hostile.laborious import directory, laborious
from tools.hostile.parts import PNG, chunk, encoded, header, png, red, red_rows
from vit_edge.errors import ImageError
from vit_edge.runtime.image.decode import decode
from vit_edge.runtime.image.effort import check_effort, check_exif
from vit_edge.runtime.image.limits import DecodeLimits, ImageFormat, built_with
from vit_edge.runtime.image.too_much import TooMuch

LIMITS = DecodeLimits(formats=(*DecodeLimits().formats, ImageFormat.GIF, ImageFormat.TIFF, ImageFormat.PPM))
FILES = laborious()
# As far as the place where anything may stand.
BOXES = (
    b"\0\0\0\x0cjP  \r\n\x87\n",
    b"\0\0\0\x0cjP  \0\0\0\0jp2c",
    b"\xff\x4f\xff\x51",
    codestream(64),
    b"\0\0\0\x08ftyp\0\0\0\0meta",
    b"\0\0\0\x08ftyp\0\0\0\0meta\0\0\0\0\0\0\0\0iloc",
    avif(SMALL)[:-8],
)

CAUSES: Mapping[str, str] = {
    "scans_over_81_megapixels.jpg": "81000000 pixels in more than 29 scans",
    "scans_by_the_hundred.jpg": "256 pixels in more than 500 scans",
    "comments_by_the_thousand.jpg": "4096 parts",
    "reserved_by_the_thousand.jpg": "4096 parts",
    "comments_behind_the_end.jpg": "4096 parts",
    "filling.jpg": "much between them",
    "junk.jpg": "much between them",
    "exif_by_the_dozen.jpg": "16 EXIF blocks",
    "exif_of_gigabytes.jpg": "longer than the block",
    "pictures_of_gigabytes.jpg": "longer than the block",
    "chunks_by_the_ten_thousand.png": "65536 chunks",
    "notes_by_the_thousand.png": "1000 beside its pixels",
    "exif_of_gigabytes.png": "longer than the block",
    "frames_by_the_ten_thousand.webp": "10000 frames",
    "exif_of_gigabytes.webp": "longer than the block",
    "comment_in_blocks.gif": "4096 blocks",
    "comments_by_the_thousand.gif": "4096 blocks",
    "runs_of_16_megapixels.bmp": "run-length",
    "digits.ppm": "in digits",
    "comment.ppm": "no size in its first",
    "directory_of_gigabytes.tif": "longer than the block",
    "exif_of_gigabytes.tif": "longer than the block",
    "strips_by_the_million.tif": "longer than the block",
    "tiles_by_the_ten_thousand.j2k": "8192 tiles",
    "megapixels_of_nothing.j2k": "bytes are 100 megapixels",
    "layers_by_the_ten_thousand.j2k": r"cut into \d+ packets",
    "layers_in_a_tile.j2k": r"cut into \d+ packets",
    "precincts_of_a_pixel.j2k": r"cut into \d+ packets",
    "orders_by_the_thousand.j2k": r"cut into \d+ packets",
    "blocks_by_the_million.jp2": "2000000 code blocks",
    "header_that_hides_another.j2k": "no JPEG 2000 has .ff30",
    "comments_by_the_thousand.j2k": "4096 parts in its headers",
    "boxes_by_the_thousand.jp2": "1000 boxes",
    "boxes_within_a_header.jp2": "1000 boxes",
    "frames_by_the_hundred.avif": "501 frames",
    "frames_inside.avif": "501 frames",
    "frame_of_gigapixels.avif": "1 frames of 4294967296 pixels",
    "pieces_by_the_thousand.avif": "4096 pieces",
    "items_of_gigabytes.avif": "longer than the file",
    "animation.avif": "is an animation",
    "boxes_by_the_thousand.avif": "1000 boxes",
    "items_by_the_thousand.avif": "1000 boxes",
    "properties_by_the_thousand.avif": "1000 boxes",
}


def test_every_laborious_file_has_its_cause() -> None:
    assert CAUSES.keys() == FILES.keys()


@pytest.mark.parametrize("name", CAUSES)
def test_a_file_that_asks_for_more_work_than_any_picture_is_refused_before_it_is_opened(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "open", lambda *_args, **_options: pytest.fail("Pillow was given it"))
    with pytest.raises(ImageError, match=CAUSES[name]) as caught:
        decode(FILES[name], LIMITS)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not built_with("jpg_2000"), reason="this Pillow was built without JPEG 2000")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"no_jp2": True},
        {"tile_size": (64, 64)},
        {"quality_layers": [40, 20, 10, 5, 0], "irreversible": True, "progression": "RPCL"},
        {"num_resolutions": 3, "codeblock_size": (16, 16), "precinct_size": (64, 64)},
    ],
)
def test_a_picture_in_jpeg_2000_is_no_bomb(options: dict[str, Any]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    data = encoded(Image.fromarray(pixels), "JPEG2000", **options)
    assert decode(data, DecodeLimits(formats=(ImageFormat.JPEG2000,))).size == (400, 300)


def test_a_picture_of_100_megapixels_may_be_cut_as_encoders_do() -> None:
    coded = bytes(30_000)  # a picture has some
    check_effort(codestream(10_000, tile=256, layers=20) + coded, 100_000_000)
    check_effort(codestream(10_000, layers=6, precincts=b"\x77" * 6) + coded, 100_000_000)
    check_effort(codestream(10_000, block=3) + coded, 100_000_000)


@pytest.mark.skipif(not built_with("avif"), reason="this Pillow was built without AVIF")
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("options", [{}, {"quality": 100, "subsampling": "4:4:4"}])
def test_a_picture_in_avif_is_no_bomb(mode: str, options: dict[str, Any]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, len(mode)), np.uint8)
    data = encoded(Image.fromarray(pixels), "AVIF", **options)
    check_effort(data, 40 * 30)
    assert decode(data, DecodeLimits(formats=(ImageFormat.AVIF,))).size == (40, 30)
    with pytest.raises(TooMuch, match="frames of"):
        check_effort(data, 40 * 30 // 25)


def test_one_frame_of_the_size_that_is_stated_is_no_bomb() -> None:
    for inside in (False, True):
        check_effort(avif(SMALL + unit(6, b"x"), inside=inside), 16 * 16)
        with pytest.raises(TooMuch, match="1 frames of 256 pixels"):
            check_effort(avif(SMALL + unit(6, b"x"), inside=inside), 10)


def test_a_progressive_photo_is_no_bomb() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    data = encoded(Image.fromarray(pixels), "JPEG", progressive=True, quality=95)
    assert data.count(b"\xff\xda") > 5
    assert decode(data).size == (160, 120)


def test_what_lies_behind_a_jpeg_and_looks_like_scans_does_not_count() -> None:
    """As the film of a motion photo does."""
    data = encoded(red(), "JPEG") + b"\xff\xda\0\4ab" * 1000
    assert decode(data).size == (16, 16)


def test_a_thumbnail_in_a_segment_does_not_count() -> None:
    data = encoded(red(), "JPEG")
    thumbnail = b"\xff\xed" + (30_002).to_bytes(2, "big") + b"\xff\xda\0\4ab" * 5000
    assert decode(data[:2] + thumbnail + data[2:]).size == (16, 16)


def test_a_png_in_as_many_chunks_as_libpng_writes_is_no_bomb() -> None:
    parts = [chunk(b"IDAT", bytes(20)) for _ in range(30_000)]
    check_effort(PNG + header(4, 3, 8, 2) + b"".join(parts), 100_000_000)


def test_an_exif_block_with_a_large_note_of_its_maker_is_no_bomb() -> None:
    check_exif(directory(40, 60_000)[:-4].ljust(64_000, b"\0"))
    with pytest.raises(TooMuch):
        check_exif(directory(5000, 60_000))


@pytest.mark.parametrize("name", ["given", "profile in text"])
def test_a_block_that_only_pillow_has_seen_is_bounded_too(name: str) -> None:
    if name == "given":
        image = red("L")
        image.info["exif"] = b"Exif\0\0" + directory(5000, 60_000)
        with pytest.raises(ImageError, match="longer than the block"):
            decode(image)
        return
    text = b"\nexif\n   8\n" + b"00" * 200_000
    note = chunk(b"tEXt", b"Raw profile type exif\0" + text)
    with pytest.raises(ImageError, match="more than 262144 digits"):
        decode(png(4, 3, 8, 2, red_rows(), note))


@given(
    st.sampled_from(
        [b"\xff\xd8", b"\x89PNG", b"RIFF....WEBP", b"GIF89a", b"BM", b"P6", b"II*\0", b"MM\0*", *BOXES]
    )
)
def test_the_mere_beginning_of_a_file_is_left_to_its_decoder(start: bytes) -> None:
    for length in range(len(start) + 1):
        check_effort(start[:length], 1)


@given(
    st.sampled_from(
        [b"\xff\xd8", b"\x89PNG", b"RIFF....WEBP", b"GIF89a", b"BM", b"P6", b"II*\0", b"MM\0\x2b", *BOXES]
    ),
    st.binary(max_size=300),
)
def test_any_bytes_are_looked_through_at_once(start: bytes, rest: bytes) -> None:
    began = time.monotonic()
    with contextlib.suppress(TooMuch):
        check_effort(start + rest, 1)
    assert time.monotonic() - began < 5  # a hang, not a speed


class Trickle(io.RawIOBase):
    """A stream that gives three bytes at a time, as a pipe may."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.rest = data

    def read(self, size: int = -1) -> bytes:
        part, self.rest = self.rest[: min(size, 3)], self.rest[min(size, 3) :]
        return part


def test_a_stream_with_short_reads_is_read_to_its_end() -> None:
    data = encoded(red(), "PNG")
    assert decode(Trickle(data)).size == (16, 16)  # type: ignore[arg-type]


def test_a_stream_is_read_no_further_than_the_limit() -> None:
    stream = Trickle(bytes(1000))
    with pytest.raises(ImageError, match="limit of 10 bytes"):
        decode(stream, DecodeLimits(max_bytes=10))  # type: ignore[arg-type]
    assert len(stream.rest) > 900


def test_a_stream_that_does_not_wait_is_refused() -> None:
    class Empty(io.RawIOBase):
        def read(self, _size: int = -1) -> None:
            return None

    with pytest.raises(ImageError, match="does not wait"):
        decode(Empty())  # type: ignore[arg-type]


def test_a_huge_array_is_refused_before_it_is_copied() -> None:
    terabytes = np.broadcast_to(np.zeros(3, np.uint8), (10**6, 10**6, 3))
    with pytest.raises(ImageError, match="1000000 x 1000000 pixels, more than the limit"):
        decode(terabytes)
