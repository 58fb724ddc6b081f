"""Every argument that is one of a few things takes the thing or its value, and nothing else passes for it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vit_edge import Classifier, DecodeLimits, Decoding, Embedder, ImageFormat, SessionSettings, UsageError
from vit_edge.manifest import FileEntry, Role
from vit_edge.runtime.image.decode import decode
from vit_edge.runtime.image.preprocess import load_pixels
from vit_edge.spec import Interpolation, PreprocessSpec, ResizeMode

HALF = (0.5, 0.5, 0.5)
SPEC = PreprocessSpec(8, 8, ResizeMode.EXACT, (8, 8), Interpolation.BICUBIC, HALF, HALF)
PHOTO = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)


@pytest.mark.parametrize("member", list(Decoding))
def test_a_way_to_decode_is_taken_by_its_value(data: Path, member: Decoding) -> None:
    """The two differ for this image, so that one in place of the other would show."""
    spec = [load_pixels(PHOTO, SPEC, decoding=way).tobytes() for way in Decoding]
    assert spec[0] != spec[1]
    assert load_pixels(PHOTO, SPEC, decoding=member.value).tobytes() == spec[list(Decoding).index(member)]
    model = data / "dynamic.onnx"
    assert Classifier(model, decoding=member.value)(PHOTO) == Classifier(model, decoding=member)(PHOTO)


@pytest.mark.parametrize("junk", ["junk", "EXACT", "", None, 1, True, Role.FLOAT])
def test_what_is_no_way_to_decode_is_refused(data: Path, junk: Any) -> None:
    with pytest.raises(UsageError, match="decoding must be one of exact, fast"):
        Classifier(data / "dynamic.onnx", decoding=junk)
    with pytest.raises(UsageError, match="decoding must be one of exact, fast"):
        Embedder(data / "embedder.onnx", decoding=junk)
    with pytest.raises(UsageError, match="decoding must be one of exact, fast"):
        load_pixels(PHOTO, SPEC, decoding=junk)


@pytest.mark.parametrize("kind", [Classifier, Embedder])
def test_none_is_the_default(data: Path, kind: Any) -> None:
    model = data / ("dynamic.onnx" if kind is Classifier else "embedder.onnx")
    opened = kind(model, provider=None, limits=None)
    assert opened.placement == kind(model).placement
    opened(PHOTO)
    assert decode(PHOTO, None).size == (400, 400)
    assert SessionSettings(provider=None).provider == "auto"  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["provider", "limits", "threads"])
def test_a_number_of_the_wrong_kind_is_refused(data: Path, name: str) -> None:
    with pytest.raises(UsageError, match=name):
        Classifier(data / "dynamic.onnx", **{name: True})  # type: ignore[arg-type]


@pytest.mark.parametrize("top_k", [2.5, True, "3", None, 0])
def test_a_count_is_an_integer(data: Path, top_k: Any) -> None:
    with pytest.raises(UsageError, match="top_k must be"):
        Classifier(data / "dynamic.onnx")(PHOTO, top_k=top_k)


def test_formats_are_taken_by_their_names() -> None:
    wanted = (ImageFormat.JPEG2000, ImageFormat.WEBP, ImageFormat.PNG)
    assert DecodeLimits(formats=("JPEG 2000", "webp", ImageFormat.PNG)).formats == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize("formats", ["PNG", ("svg",), (1,), 7, ([],)])
def test_what_is_no_format_is_refused(formats: Any) -> None:
    with pytest.raises(UsageError, match="formats must be"):
        DecodeLimits(formats=formats)


def test_a_recipe_takes_the_values_of_its_filters() -> None:
    given: Any = ("exact", "bicubic")
    assert PreprocessSpec(8, 8, given[0], (8, 8), given[1], HALF, HALF) == SPEC
    assert FileEntry("0" * 64, 1, "float").role is Role.FLOAT  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mode", "filter_", "name"), [("squash", "bicubic", "resize_mode"), ("exact", 3, "interpolation")]
)
def test_a_recipe_refuses_what_is_no_filter(mode: Any, filter_: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be one of"):
        PreprocessSpec(8, 8, mode, (8, 8), filter_, HALF, HALF)


@pytest.mark.parametrize(
    ("mean", "std"),
    [((1e9, 0, 0), HALF), (HALF, (1e-9, 1, 1)), (HALF, (1e9, 1, 1)), (HALF, (float("nan"), 1, 1))],
)
def test_a_recipe_refuses_absurd_statistics(mean: Any, std: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        PreprocessSpec(8, 8, ResizeMode.EXACT, (8, 8), Interpolation.BICUBIC, mean, std)
