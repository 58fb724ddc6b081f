"""Decoding gives the pixels that Pillow's own convert gives, upright, or one clear refusal."""

import io
import os
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

from vit_edge.errors import ImageError, UsageError
from vit_edge.runtime.image.decode import decode
from vit_edge.runtime.image.limits import DEFAULT_FORMATS, DecodeLimits, ImageFormat, built_with
from vit_edge.runtime.image.source import ImageSource


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


# Pillow reads AVIF from version 11.3 on.
AVIF = ["AVIF"] if built_with("avif") else []
READABLE = [each for each in ImageFormat if AVIF or each is not ImageFormat.AVIF]


def exif_with(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("kind", ["path", "string", "bytes", "file", "pillow"])
def test_every_source_gives_the_pixels_that_pillow_gives(
    photo: np.ndarray, tmp_path: Path, form: str, kind: str
) -> None:
    data = encoded(Image.fromarray(photo), form)
    path = tmp_path / "photo"
    path.write_bytes(data)
    sources: dict[str, ImageSource] = {
        "path": path,
        "string": str(path),
        "bytes": data,
        "file": io.BytesIO(data),
        "pillow": Image.open(io.BytesIO(data)),
    }
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    image = decode(sources[kind])
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), expected)


def test_an_array_passes_through_unchanged(photo: np.ndarray) -> None:
    np.testing.assert_array_equal(np.asarray(decode(photo)), photo)
    np.testing.assert_array_equal(np.asarray(decode(photo[:, ::-1])), photo[:, ::-1])


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1"])
def test_a_png_of_any_mode_looks_as_pillows_convert_makes_it(photo: np.ndarray, mode: str) -> None:
    image = Image.fromarray(photo).convert(mode)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(np.asarray(decode(encoded(image, "PNG"))), expected)


def test_alpha_is_dropped_and_not_composited() -> None:
    image = Image.new("RGBA", (4, 4), (10, 200, 30, 0))
    assert decode(encoded(image, "PNG")).getpixel((0, 0)) == (10, 200, 30)


def test_a_palette_with_alpha_per_entry_gives_its_colours_without_a_warning() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    data = encoded(image, "PNG", transparency=b"\x00\x80")
    result = decode(data)
    assert [result.getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0), (0, 0, 255)]
    given_image = Image.open(io.BytesIO(data))
    decode(given_image)
    assert given_image.info["transparency"] == b"\x00\x80", "the caller's image must stay as it is"


def test_a_cmyk_jpeg_follows_pillow(photo: np.ndarray) -> None:
    data = encoded(Image.fromarray(photo).convert("CMYK"), "JPEG")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(decode(data)), expected)


def test_sixteen_bit_greyscale_is_scaled_and_not_clipped() -> None:
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    result = np.asarray(decode(encoded(Image.fromarray(values), "PNG")))
    np.testing.assert_array_equal(result[0, :, 0], [0, 0, 1, 128, 255])


@pytest.mark.parametrize(("bits", "largest"), [(8, 255), (10, 700), (12, 4095), (14, 16383)])
def test_narrower_data_kept_in_sixteen_bits_are_refused_and_not_shown_nearly_black(
    bits: int, largest: int
) -> None:
    values = np.linspace(0, largest, 64).astype(np.uint16).reshape(8, 8)
    with pytest.raises(ImageError, match=f"at most {largest}, so {bits}-bit data .*scale it to 8 bits first"):
        decode(encoded(Image.fromarray(values), "PNG"))


@pytest.mark.parametrize("largest", [0, 1 << 14, 65535])
def test_sixteen_bits_whose_range_is_known_are_taken(largest: int) -> None:
    values = np.full((4, 4), largest, np.uint16)
    assert decode(encoded(Image.fromarray(values), "PNG")).getpixel((0, 0)) == (largest >> 8,) * 3


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(form: str) -> None:
    frames = [Image.new("RGB", (6, 5), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], lossless=True)
    assert decode(data).getpixel((2, 2)) == (255, 0, 0)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured_as_in_pillow(photo: np.ndarray, form: str, orientation: int) -> None:
    data = encoded(Image.fromarray(photo), form, exif=exif_with(orientation))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_array_equal(np.asarray(decode(data)), np.asarray(expected))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(photo: np.ndarray, orientation: int) -> None:
    data = encoded(Image.fromarray(photo), "PNG", exif=exif_with(orientation))
    np.testing.assert_array_equal(np.asarray(decode(data)), photo)


def test_a_broken_exif_block_does_not_cost_the_image(photo: np.ndarray) -> None:
    data = encoded(Image.fromarray(photo), "PNG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f")
    np.testing.assert_array_equal(np.asarray(decode(data)), photo)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(photo: np.ndarray, tmp_path: Path, form: str, keep: float) -> None:
    data = encoded(Image.fromarray(photo), form)
    path = tmp_path / "cut.bin"
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ImageError, match=r"cut\.bin"):
        decode(path)


@pytest.mark.parametrize("form", ["GIF", "TIFF", "PPM", "ICO", "JPEG2000", *AVIF])
def test_a_format_beyond_the_four_is_refused(photo: np.ndarray, form: str) -> None:
    data = encoded(Image.fromarray(photo), form)
    with pytest.raises(ImageError, match=r"no JPEG, PNG, WebP or BMP.*allow its format"):
        decode(data)


@pytest.mark.parametrize("form", [each for each in READABLE if each not in DEFAULT_FORMATS])
def test_a_format_that_is_allowed_gives_the_pixels_that_pillow_gives(
    photo: np.ndarray, form: ImageFormat
) -> None:
    data = encoded(Image.fromarray(photo), form.name)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    for formats in ((form,), (*DEFAULT_FORMATS, form)):
        np.testing.assert_array_equal(np.asarray(decode(data, DecodeLimits(formats=formats))), expected)


@pytest.mark.parametrize("form", READABLE)
def test_what_is_not_allowed_is_refused_whatever_the_file_is_called(
    photo: np.ndarray, tmp_path: Path, form: ImageFormat
) -> None:
    others = tuple(each for each in READABLE if each is not form)
    path = tmp_path / f"photo{others[0].suffixes[0]}"
    path.write_bytes(encoded(Image.fromarray(photo), form.name))
    with pytest.raises(ImageError, match=rf"photo.* is no .*{others[-1].value} image"):
        decode(path, DecodeLimits(formats=others))


@pytest.mark.parametrize("form", READABLE)
def test_names_that_pillow_gives_a_format_are_listed(form: ImageFormat) -> None:
    Image.init()
    assert {Image.EXTENSION[suffix] for suffix in form.suffixes} == {form.name}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["TIFF", *AVIF])
def test_an_allowed_format_is_turned_upright_once(photo: np.ndarray, form: str, orientation: int) -> None:
    data = encoded(Image.fromarray(photo), form, exif=exif_with(orientation))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    limits = DecodeLimits(formats=(ImageFormat[form],))
    np.testing.assert_array_equal(np.asarray(decode(data, limits)), np.asarray(expected))


def test_of_several_pages_or_frames_of_an_allowed_format_the_first_is_taken() -> None:
    frames = [Image.new("RGB", (6, 5), colour) for colour in ("red", "blue")]
    for form in (ImageFormat.GIF, ImageFormat.TIFF):
        data = encoded(frames[0], form.name, save_all=True, append_images=frames[1:])
        assert decode(data, DecodeLimits(formats=(form,))).getpixel((2, 2)) == (255, 0, 0)


@pytest.mark.parametrize("form", [ImageFormat.TIFF, ImageFormat.JPEG2000])
def test_sixteen_bits_of_an_allowed_format_are_scaled(form: ImageFormat) -> None:
    values = np.array([[0, 255, 256, 32768, 65535]] * 4, np.uint16)
    data = encoded(Image.fromarray(values), form.name)
    result = np.asarray(decode(data, DecodeLimits(formats=(form,))))
    np.testing.assert_array_equal(result[0, :, 0], [0, 0, 1, 128, 255])


@pytest.mark.parametrize("form", [each for each in READABLE if each not in DEFAULT_FORMATS])
@pytest.mark.parametrize("keep", [0.05, 0.5, 0.9])
def test_a_truncated_file_of_an_allowed_format_gives_an_image_or_an_image_error(
    photo: np.ndarray, form: ImageFormat, keep: float
) -> None:
    data = encoded(Image.fromarray(photo), form.name)
    try:
        image = decode(data[: int(len(data) * keep)], DecodeLimits(formats=(form,)))
    except ImageError:
        return
    assert image.mode == "RGB"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param("missing.jpg", "missing.jpg does not exist", id="missing file"),
        pytest.param("nul\0byte.jpg", "cannot be read", id="null byte in the path"),
        pytest.param("https://example.com/cat.jpg", "does not exist", id="URL"),
        pytest.param(".", "no regular file", id="folder"),
        pytest.param(os.devnull, "no regular file", id="device"),
        pytest.param(b"", "is empty", id="no bytes"),
        pytest.param(b"hello", "no JPEG", id="text"),
        pytest.param(io.StringIO("text"), "binary mode", id="text file object"),
        pytest.param(7, "must be a path", id="number"),
        pytest.param(None, "must be a path", id="None"),
        pytest.param(np.zeros((3, 8, 8), np.uint8), r"\(height, width, 3\)", id="CHW array"),
        pytest.param(np.zeros((8, 8), np.uint8), r"\(height, width, 3\)", id="2-D array"),
        pytest.param(np.zeros((8, 8, 3), np.float32), "must be uint8", id="float array"),
        pytest.param(np.zeros((0, 8, 3), np.uint8), r"\(0, 8, 3\)", id="empty array"),
        pytest.param(Image.new("F", (4, 4)), "range is unknown", id="float image"),
        pytest.param(Image.new("I", (4, 4)), "range is unknown", id="int32 image"),
        pytest.param(Image.new("RGB", (0, 4)), "no pixels", id="image without pixels"),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(source: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        decode(source)
    assert "\n" not in str(caught.value)


def test_a_closed_file_is_refused(photo: np.ndarray) -> None:
    file = io.BytesIO(encoded(Image.fromarray(photo), "PNG"))
    file.close()
    with pytest.raises(ImageError, match="closed"):
        decode(file)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_named_pipe_is_refused_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="no regular file"):
        decode(tmp_path / "pipe.png")


def test_the_pixel_limit_is_checked_before_decoding(photo: np.ndarray) -> None:
    limits = DecodeLimits(max_pixels=37 * 53 - 1)
    data = encoded(Image.fromarray(photo), "PNG")
    for source in (data, data[: len(data) // 2], photo, Image.fromarray(photo)):
        with pytest.raises(ImageError, match=str(37 * 53 - 1)):
            decode(source, limits)
    assert decode(data, DecodeLimits(max_pixels=37 * 53)).size == (53, 37)


def test_a_bomb_is_refused_by_its_header_and_no_warning_escapes() -> None:
    data = encoded(Image.new("1", (20_000, 6_000)), "PNG")  # 120 megapixels in a few kilobytes
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ImageError, match="20000 x 6000"):
            decode(data)
    assert not caught


def test_what_pillow_itself_calls_a_bomb_is_an_image_error() -> None:
    data = bytearray(encoded(Image.new("1", (8, 8)), "BMP"))
    data[18:26] = (30_000).to_bytes(4, "little") * 2
    with pytest.raises(ImageError, match="pixels"):
        decode(bytes(data))


def test_the_byte_limit_holds_for_every_kind_of_source(photo: np.ndarray, tmp_path: Path) -> None:
    data = encoded(Image.fromarray(photo), "PNG")
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    for source in (data, path, io.BytesIO(data)):
        with pytest.raises(ImageError, match="limit of 100 bytes"):
            decode(source, DecodeLimits(max_bytes=100))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_pixels": 0}, "max_pixels"),
        ({"max_pixels": 10**9}, "max_pixels"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"formats": ()}, "at least one"),
        ({"formats": ("SVG",)}, "of ImageFormat .*TIFF.*got 'SVG'"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(limits: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DecodeLimits(**limits)


def test_a_format_that_pillow_was_built_without_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda feature: feature != "avif")
    with pytest.raises(UsageError, match="built without AVIF"):
        DecodeLimits(formats=(ImageFormat.AVIF,))
    DecodeLimits(formats=(ImageFormat.JPEG2000,))


@given(st.sampled_from(READABLE), st.data())
def test_a_damaged_file_gives_an_image_or_an_image_error(form: ImageFormat, data: st.DataObject) -> None:
    values = np.random.default_rng(5).integers(0, 256, (12, 16, 3), np.uint8)
    original = bytearray(encoded(Image.fromarray(values), form.name))
    for _ in range(data.draw(st.integers(1, 8))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode(bytes(original), DecodeLimits(max_pixels=1_000_000, formats=(form,)))
    except ImageError:
        return
    assert image.mode == "RGB"


def test_many_threads_leave_the_warning_filters_alone(photo: np.ndarray) -> None:
    data = encoded(Image.fromarray(photo), "JPEG")
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [decode(data) for _ in range(20)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
