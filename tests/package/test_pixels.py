"""The preprocessing in JavaScript and in C against Pillow: any size, filter and rule."""

import base64
import ctypes
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

import vit_edge
from vit_edge.runtime.image.preprocess import to_pixels
from vit_edge.spec import CropRule, Interpolation, PreprocessSpec, ResizeMode

HERE = Path(__file__).parent
TEMPLATES = Path(vit_edge.__file__).parent / "package" / "templates"
SCRIPT = TEMPLATES / "shared" / "pixels.mjs"

Bytes = np.ndarray
Ask = Callable[[Bytes, int, PreprocessSpec | None], Bytes]

# Releases before shrink tall pictures in the other order of the two passes.
ordered = pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="needs Pillow 13")


class Recipe(ctypes.Structure):
    """`struct recipe` of pixels.h."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("height", "width", "mode", "rows", "columns", "filter", "crop")),
        *((name, ctypes.c_float * 3) for name in ("mean", "std")),
    )

    @classmethod
    def of(cls, spec: PreprocessSpec) -> "Recipe":
        modes, filters, crops = (list(kind) for kind in (ResizeMode, Interpolation, CropRule))
        places = modes.index(spec.resize_mode), filters.index(spec.interpolation), crops.index(spec.crop)
        return cls(spec.height, spec.width, places[0], *spec.resize, *places[1:])


def in_c(folder: Path) -> Ask:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    words = [
        compiler,
        "-std=c11",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-ffp-contract=off",
        "-shared",
        "-fPIC",
    ]
    subprocess.run(
        [*words, str(TEMPLATES / "c" / "pixels.c"), "-o", str(folder / "pixels.so"), "-lm"], check=True
    )
    library = ctypes.CDLL(str(folder / "pixels.so"))
    library.preprocessed.restype = ctypes.c_void_p
    library.preprocessed.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_int, ctypes.POINTER(Recipe)]
    free = ctypes.CDLL(None).free
    free.argtypes = [ctypes.c_void_p]

    def answer(pixels: Bytes, _: int, spec: PreprocessSpec | None) -> Bytes:
        assert spec is not None
        height, width = pixels.shape[:2]
        rgb = np.ascontiguousarray(pixels[..., :3]).tobytes()
        made = library.preprocessed(rgb, width, height, ctypes.byref(Recipe.of(spec)))
        assert made
        found = np.frombuffer(ctypes.string_at(made, 3 * spec.height * spec.width), np.uint8)
        free(made)
        return found

    return answer


@pytest.fixture(scope="module", params=["JavaScript", "C"])
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    if request.param == "C":
        yield in_c(tmp_path_factory.mktemp("c"))
        return
    yield from in_javascript()


@pytest.fixture(scope="module")
def javascript() -> Iterator[Ask]:
    yield from in_javascript()


def in_javascript() -> Iterator[Ask]:
    if shutil.which("node") is None:
        pytest.skip("needs node")
    words = ["node", str(HERE / "serve_pixels.mjs"), str(SCRIPT)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def answer(pixels: Bytes, orientation: int, spec: PreprocessSpec | None) -> Bytes:
            height, width = pixels.shape[:2]
            asked = {"data": base64.b64encode(pixels.tobytes()).decode(), "width": width, "height": height}
            more = {"orientation": orientation, "spec": None if spec is None else spec.to_json()}
            stdin.write(json.dumps(asked | more) + "\n")
            stdin.flush()
            return np.frombuffer(base64.b64decode(stdout.readline()), np.uint8)

        yield answer
        stdin.close()


sides = st.integers(1, 70)


@st.composite
def recipes(draw: st.DrawFn) -> PreprocessSpec:
    mode = draw(st.sampled_from(ResizeMode))
    rows = draw(st.integers(1, 48))
    columns = rows if mode is ResizeMode.SHORT_SIDE else draw(st.integers(1, 48))
    return PreprocessSpec(
        height=draw(st.integers(1, 48)),
        width=draw(st.integers(1, 48)),
        resize_mode=mode,
        resize=(rows, columns),
        interpolation=draw(st.sampled_from(Interpolation)),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        crop=draw(st.sampled_from(CropRule)),
    )


@ordered
@settings(max_examples=400)
@given(spec=recipes(), width=sides, height=sides, channels=st.sampled_from([3, 4]), seed=st.integers(0, 99))
def test_every_pixel_is_pillows_to_one_level(
    ask: Ask, spec: PreprocessSpec, width: int, height: int, channels: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    expected = to_pixels(Image.fromarray(np.ascontiguousarray(pixels[..., :3])), spec)
    found = ask(pixels, 1, spec).reshape(expected.shape)
    assert np.abs(found.astype(int) - expected).max() <= 1


@ordered
@pytest.mark.parametrize("interpolation", list(Interpolation))
@pytest.mark.parametrize(("width", "height"), [(640, 427), (427, 640), (1500, 900), (100, 80)])
def test_photos_are_equal_but_for_one_value_in_a_thousand(
    ask: Ask, interpolation: Interpolation, width: int, height: int
) -> None:
    """A sine that rounds otherwise may tip a weight; nothing else may differ."""
    spec = PreprocessSpec(
        224,
        224,
        ResizeMode.SHORT_SIDE,
        (248, 248),
        interpolation,
        (0.5,) * 3,
        (0.5,) * 3,
        CropRule.TORCHVISION,
    )
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = to_pixels(Image.fromarray(pixels), spec)
    found = ask(pixels, 1, spec).reshape(expected.shape)
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert np.mean(found != expected) <= 0.001


@pytest.mark.parametrize("orientation", [0, *range(1, 9), 9])
def test_an_image_is_turned_as_pillow_turns_it(javascript: Ask, orientation: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(javascript(pixels, orientation, None).reshape(expected.shape), expected)
