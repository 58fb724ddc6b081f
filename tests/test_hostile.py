"""Every hostile file is refused in one sentence, or gives the documented result; never anything else.

tools/hostile makes the files and says what each one tries.
"""

import re
import subprocess
import sys
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from vit_edge import Classifier, Session
from vit_edge.bundle import MANIFEST, read_bundle
from vit_edge.errors import BundleError, ImageError, ModelError, TargetError, VitEdgeError
from vit_edge.manifest import Manifest
from vit_edge.runtime.image.decode import decode
from vit_edge.runtime.model.file import read_model
from vit_edge.targets import load_target
from vit_edge.targets.loader import BUILT_IN

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = ROOT / "tests" / "hostile"
NO_IMAGE = "no JPEG, PNG, WebP or BMP"
PIXELS = r"more than (the limit of )?\d+"

Colour = tuple[int, int, int]
RED, BLUE, GREY, BLACK = (255, 0, 0), (0, 0, 255), (76, 76, 76), (0, 0, 0)

# (width, height), colour of the first and of the last pixel
DECODED: Mapping[str, tuple[tuple[int, int], Colour, Colour]] = {
    "animated.png": ((4, 3), RED, RED),  # the first frame
    "animated.webp": ((16, 16), RED, RED),
    "bomb_in_data.png": ((4, 3), BLACK, BLACK),  # what does not belong to the picture is never inflated
    "cmyk.jpg": ((16, 16), RED, RED),
    "exif_count_65535.jpg": ((16, 16), RED, RED),
    "exif_loop.jpg": ((16, 16), RED, RED),
    "exif_of_noise.png": ((4, 3), RED, RED),
    "exif_orientation_65535.jpg": ((16, 16), RED, RED),
    "exif_orientation_a_billion_times.jpg": ((16, 16), RED, RED),
    "exif_orientation_as_text.jpg": ((16, 16), RED, RED),
    "grey.jpg": ((16, 16), GREY, GREY),
    "grey_of_16_bits.png": ((2, 1), (128, 128, 128), (255, 255, 255)),  # the high byte
    "palette_too_short.png": ((2, 1), RED, BLACK),
    "palette_with_alpha.png": ((2, 1), RED, BLUE),  # alpha is dropped
    "png_named.jpg": ((4, 3), RED, RED),  # the content decides, not the name
    "polyglot_jpeg_then_zip.jpg": ((16, 16), RED, RED),
    "polyglot_png_with_script.png": ((4, 3), RED, RED),
    "rgb_of_16_bits.png": ((1, 1), (255, 0, 128), (255, 0, 128)),
    "top_down.bmp": ((4, 1), RED, RED),
}

REFUSED_IMAGES: Mapping[str, str] = {
    "animated.gif": NO_IMAGE,
    "bomb_below_pillows_limit.png": "12000 x 12000 pixels, more than the limit",
    "bomb_by_header.png": PIXELS,
    "bomb_in_profile.png": "too large",
    "bomb_in_text.png": "too large",
    "chunk_longer_than_the_file.png": "damaged header",
    "chunks_without_a_header.png": NO_IMAGE,
    "empty.png": "is empty",
    "only_a_signature.jpg": NO_IMAGE,
    "only_a_signature.png": NO_IMAGE,
    "page_named.jpg": NO_IMAGE,
    "polyglot_zip_then_jpeg.jpg": NO_IMAGE,
    "postscript_named.png": NO_IMAGE,
    "size_65535.jpg": PIXELS,
    "size_beyond_any_memory.bmp": PIXELS,
    "size_beyond_the_data.bmp": "truncated",
    "size_beyond_the_format.png": PIXELS,
    "size_of_zero.bmp": NO_IMAGE,
    "size_of_zero.jpg": NO_IMAGE,
    "size_of_zero.png": NO_IMAGE,
    "size_smallest_negative.bmp": PIXELS,
    "text_named.png": NO_IMAGE,
    "truncated.jpg": "damaged",
    "truncated.png": "truncated",
    "truncated.webp": "damaged",
    "unknown_depth.png": NO_IMAGE,
    "vector_named.png": NO_IMAGE,
    "wrong_checksum.png": NO_IMAGE,
}

REFUSED_MODELS: Mapping[str, str] = {
    "batch_of_billions.onnx": "batch size 2147483648",
    "classes_by_the_billion.onnx": "number of classes",
    "compiled_context.onnx": "compiled for one device",
    "compiled_context_in_another_file.onnx": "external data",
    "functions_in_a_circle.onnx": "more than 200000 nodes",
    "functions_that_double.onnx": "more than 200000 nodes",
    "loop_of_a_trillion_turns.onnx": "as often as it likes .Loop",
    "loop_behind_a_function_of_its_name.onnx": "as often as it likes .Loop",
    "context_behind_a_function_of_its_name.onnx": "compiled for one device",
    "custom_domain.onnx": "evil.example::Run",
    "endless_number.onnx": "longer than 64 bits",
    "external_data.onnx": "external data",
    "external_data_behind_an_overlong_key.onnx": "field number is out of range",
    "external_data_in_a_function.onnx": "external data",
    "field_longer_than_the_file.onnx": "middle of a field",
    "input_of_exabytes.onnx": "image height",
    "input_of_negative_size.onnx": "image height",
    "nested_graphs.onnx": "nested more than",
    "no_graph.onnx": "no ONNX graph",
    "runtime_format.onnx": "is no ONNX model",
    "zip.onnx": "is no ONNX model",
}

# Past the reader of the header; onnxruntime must refuse them, or fail, without harm.
REFUSED_BY_ONNXRUNTIME = {
    "constant_of_terabytes.onnx",
    "graph_that_needs_itself.onnx",
    "weight_without_its_values.onnx",
}

REFUSED_MANIFESTS: Mapping[str, str] = {
    "accuracy_of_a_verdict_alone.json": "accuracy lacks the key 'data'",
    "byte_order_mark.json": "not valid JSON",
    "deviation_of_zero.json": "std must be positive",
    "files_as_text.json": "files must be an object",
    "from_the_far_future.json": "newer than 1.*pip install --upgrade",
    "from_the_future.json": "format version 2 is newer than 1.*pip install --upgrade",
    "half_a_character.json": "default_model",
    "infinity.json": "not valid JSON",
    "infinity_by_exponent.json": "too large",
    "interpolation_as_list.json": "interpolation must be one of",
    "key_twice.json": "occurs twice",
    "list.json": "must be an object",
    "manifest_lists_itself.json": "uses the name of vit_edge.json",
    "mean_beyond_a_float.json": "mean must be a finite number",
    "nested_20000_deep.json": "nested too deeply",
    "nested_500_deep.json": "nested too deeply",
    "nested_in_recipe.json": "nested too deeply",
    "not_a_number.json": "not valid JSON",
    "nothing.json": "not valid JSON",
    "number_beyond_a_float.json": "must be a finite number",
    "number_of_5000_digits.json": "not valid JSON",
    "path_absolute.json": "no plain relative path",
    "path_of_a_megabyte.json": "no plain relative path",
    "path_of_another_system.json": "no plain relative path",
    "path_up.json": "no plain relative path",
    "path_with_a_null.json": "no plain relative path",
    "picture_of_gigapixels.json": "height must be 1 to 4096",
    "role_as_list.json": "role must be one of",
    "size_as_text.json": "size must be an integer",
    "size_of_exabytes.json": "size must be an integer",
    "text_after_the_end.json": "not valid JSON",
    "true_for_a_number.json": "height must be an integer",
    "utf_16.json": "not valid JSON",
}

REFUSED_TARGETS: Mapping[str, str] = {
    "date_for_a_number.toml": "weight_bits",
    "empty.toml": "lacks the key",
    "inherits_a_name_of_4000_letters.toml": "unknown target",
    "inherits_a_number.toml": "inherits must be a name",
    "inherits_a_path.toml": "unknown target",
    "inherits_itself.toml": "inherits itself",
    "keys_nested.toml": "nested too deeply",
    "keys_that_take_tomllib_long.toml": "larger than",
    "larger_than_any_target.toml": "larger than",
    "latin_1.toml": "not valid TOML",
    "nested.toml": "not valid TOML",
    "not_a_number.toml": "weight_bits",
    "number_of_4000_digits.toml": "weight_bits",
    "number_of_5000_digits.toml": "not valid TOML",
    "session_option_of_a_library.toml": "load_custom_op_library",
    "unknown_key.toml": "unknown key 'shell'",
}


def assert_one_sentence(error: VitEdgeError, path: Path) -> None:
    """Names the file, and is one line that can be read."""
    message = str(error)
    assert path.name in message or path.stem in message
    assert len(message) < 1000
    assert "\n" not in message


def test_every_hostile_file_has_its_expectation() -> None:
    expected = {
        "images": {*DECODED, *REFUSED_IMAGES},
        "models": {*REFUSED_MODELS, *REFUSED_BY_ONNXRUNTIME, "also_looks_like_runtime_format.onnx"},
        "manifests": {*REFUSED_MANIFESTS, "good.json"},
        "targets": set(REFUSED_TARGETS),
    }
    found = {folder.name: {path.name for path in folder.iterdir()} for folder in HOSTILE.iterdir()}
    assert found == expected


def test_the_script_makes_these_files(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "tools.make_hostile", tmp_path], cwd=ROOT, check=True)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.*")}
    kept = {path.relative_to(HOSTILE): path.read_bytes() for path in HOSTILE.rglob("*.*")}
    assert made.keys() == kept.keys()
    versioned = re.compile(r".*\.(jpg|webp|gif)|bomb_in_.*")  # these depend on a library's version
    differing = [name for name in kept if not versioned.fullmatch(name.name) and made[name] != kept[name]]
    assert differing == []


@pytest.mark.parametrize("name", DECODED)
def test_an_odd_image_is_decoded_as_documented(name: str) -> None:
    size, first, last = DECODED[name]
    image = decode(HOSTILE / "images" / name)
    pixels = np.asarray(image).astype(int)
    assert (image.mode, image.size) == ("RGB", size)
    np.testing.assert_allclose([pixels[0, 0], pixels[-1, -1]], [first, last], atol=1)  # JPEG rounds


@pytest.mark.parametrize("name", REFUSED_IMAGES)
def test_a_hostile_image_is_refused_and_costs_little_memory(name: str) -> None:
    path = HOSTILE / "images" / name
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=REFUSED_IMAGES[name]) as caught:
            decode(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24  # the peak
    finally:
        tracemalloc.stop()
    assert_one_sentence(caught.value, path)


@pytest.mark.parametrize("name", REFUSED_IMAGES)
def test_among_others_a_hostile_image_costs_only_itself(data: Path, name: str) -> None:
    good = HOSTILE / "images" / "animated.png"
    first, bad, last = Classifier(data / "dynamic.onnx").batch([good, HOSTILE / "images" / name, good])
    assert isinstance(bad, ImageError)
    assert first == last
    assert not isinstance(first, ImageError)


@pytest.mark.parametrize("name", REFUSED_MODELS)
def test_a_hostile_model_is_refused_before_onnxruntime_sees_it(name: str) -> None:
    path = HOSTILE / "models" / name
    with pytest.raises(ModelError, match=REFUSED_MODELS[name]) as caught:
        read_model(path)
    assert_one_sentence(caught.value, path)


@pytest.mark.parametrize("name", sorted(REFUSED_BY_ONNXRUNTIME))
def test_what_only_onnxruntime_can_refuse_is_a_model_error(name: str) -> None:
    path = HOSTILE / "models" / name
    with pytest.raises(ModelError) as caught:
        Session(read_model(path)).run(np.zeros((1, 8, 8, 3), np.uint8))
    assert_one_sentence(caught.value, path)


def test_bytes_that_look_like_onnxruntimes_own_format_are_loaded_as_what_was_checked(data: Path) -> None:
    """onnxruntime would take them for its own format, whose content nobody has looked at."""
    path = HOSTILE / "models" / "also_looks_like_runtime_format.onnx"
    pixels = np.random.default_rng(2).integers(0, 256, (2, 8, 8, 3), np.uint8)
    expected = Session(read_model(data / "dynamic.onnx")).run(pixels)
    np.testing.assert_array_equal(Session(read_model(path)).run(pixels), expected)


@pytest.mark.parametrize("name", REFUSED_MANIFESTS)
def test_a_hostile_manifest_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / MANIFEST).write_bytes((HOSTILE / "manifests" / name).read_bytes())
    with pytest.raises(BundleError, match=REFUSED_MANIFESTS[name]) as caught:
        read_bundle(tmp_path)
    assert_one_sentence(caught.value, tmp_path / MANIFEST)


def test_the_manifest_that_the_hostile_ones_vary_is_a_good_one(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes((HOSTILE / "manifests" / "good.json").read_bytes())
    with pytest.raises(BundleError, match=r"lacks onnx/model\.onnx"):  # the manifest has passed
        read_bundle(tmp_path)


@pytest.mark.parametrize("name", REFUSED_TARGETS)
def test_a_hostile_target_is_refused(tmp_path: Path, name: str) -> None:
    for path in (*BUILT_IN.glob("*.toml"), HOSTILE / "targets" / name):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(TargetError, match=REFUSED_TARGETS[name]) as caught:
        load_target(Path(name).stem, tmp_path)
    assert_one_sentence(caught.value, tmp_path / name)


def test_a_manifest_says_no_more_than_its_type_allows() -> None:
    with pytest.raises(ValueError, match="unknown key"):
        Manifest.from_json({"format_version": 1, "run": "rm -rf /"})
