"""The packages for Android and iOS as far as they run here: models, check in C, the library behind Kotlin."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from tests.package.conftest import run
from tests.package.digits import Digits
from tools.engines.catalogue import WORKERS
from vit_edge import Classifier, ModelError
from vit_edge.cli import main
from vit_edge.package import mobile
from vit_edge.package.contents import contents_of
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.image.preprocess import load_pixels, normalize
from vit_edge.spec import PreprocessSpec

PHONES = ("android", "ios")
OWN = {
    "android": {"VitEdge.kt", "vit_edge_jni.c", "CMakeLists.txt"},
    "ios": {"VitEdge.swift", "VitEdge-Bridging-Header.h"},
}
# What Kotlin does by `object Pixels`, in Java: a picture of RGB bytes in, the model's input out.
JAVA = """
package vitedge;
import java.io.*;
import java.nio.*;
import java.nio.file.*;

public class Pixels {
  native byte[] bytes(byte[] rgb, int width, int height);
  native float[] numbers(byte[] rgb, int width, int height);

  public static void main(String[] words) throws IOException {
    System.load(words[0]);
    byte[] rgb = Files.readAllBytes(Path.of(words[1]));
    int width = Integer.parseInt(words[2]), height = Integer.parseInt(words[3]);
    byte[] bytes = new Pixels().bytes(rgb, width, height);
    float[] numbers = new Pixels().numbers(rgb, width, height);
    if (bytes == null || numbers == null) { System.out.println("null"); return; }
    Files.write(Path.of(words[4] + ".bytes"), bytes);
    ByteBuffer made = ByteBuffer.allocate(4 * numbers.length).order(ByteOrder.LITTLE_ENDIAN);
    for (float each : numbers) made.putFloat(each);
    Files.write(Path.of(words[4] + ".numbers"), made.array());
  }
}
"""


@pytest.fixture(scope="module")
def packages(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("phones")
    for name in PHONES:
        assert main(["package", str(digits.bundle), "--for", name, "-o", str(place / name)]) == 0
    return place


@pytest.mark.parametrize("name", PHONES)
def test_everything_that_an_app_needs_is_there(packages: Path, name: str) -> None:
    found = {str(path.relative_to(packages / name)) for path in (packages / name).rglob("*")}
    about = json.loads((packages / name / "model.json").read_text())
    models = {each["file"] for each in about["files"]}
    assert models == {"onnx/model.ort", "onnx/model_quantized.ort"}
    assert found >= models | OWN[name] | {"pixels.c", "pixels.h", "model.h", "README.md", mobile.OPERATORS}
    assert not [each for each in found if each.endswith(".onnx")]
    page = (packages / name / "README.md").read_text()
    assert "is not compiled where this package was made" in page
    assert onnxruntime.__version__ in page
    assert "@" not in page


@pytest.mark.parametrize("file", ["float", "int8"])
def test_models_of_the_own_format_answer_as_the_bundle_does(
    digits: Digits, packages: Path, file: str
) -> None:
    about = json.loads((packages / "android" / "model.json").read_text())
    [entry] = [each for each in about["files"] if each["name"] == file]
    options = onnxruntime.SessionOptions()
    for key, value in entry["session_options"].items():
        options.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(
        packages / "android" / entry["file"], options, providers=["CPUExecutionProvider"]
    )
    python = Classifier(digits.bundle, threads=1, model={"float": "float", "int8": "quantized"}[file])
    spec = PreprocessSpec.from_json(about["preprocess"])
    agreed = []
    for path in list_images(digits.images / "test").paths[::20]:
        given = normalize(load_pixels(path, spec)[None], spec)
        [made] = session.run([entry["output"]], {entry["input"]: given})
        agreed.append(int(made[0].argmax()) == python(path)[0].index)
    assert len(agreed) >= 15
    assert all(agreed)


def test_the_operators_are_those_of_the_models(packages: Path) -> None:
    """By the file itself: its float operators, and the integer ones that onnxruntime has fused."""
    head, *lines = (packages / "android" / mobile.OPERATORS).read_text().splitlines()
    assert head == "# of onnx/model.ort, onnx/model_quantized.ort"
    operators = {name for line in lines for name in line.split(";")[2].split(",")}
    assert operators >= {"Conv", "LayerNormalization", "MatMul", "Softmax", "QuantizeLinear"}
    assert operators & {"QGemm", "MatMulIntegerToFloat", "QLinearMatMul"}
    assert "DequantizeLinear" not in operators  # each is fused into an integer product
    assert all(int(line.split(";")[1]) >= 1 for line in lines)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    libraries = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if shutil.which("cc") is None or shutil.which("make") is None or not libraries:
        pytest.skip("needs a C compiler, make, and a wheel of onnxruntime with libonnxruntime.so")
    folder = tmp_path_factory.mktemp("onnxruntime")
    (folder / "lib").mkdir()
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / "lib" / name).symlink_to(libraries[0])
    (folder / "include").symlink_to(WORKERS / "abi")
    return folder


@pytest.mark.parametrize("name", PHONES)
def test_the_recorded_answers_hold_for_the_models_of_the_package(
    packages: Path, release: Path, name: str
) -> None:
    done = run("make", "check", f"ORT={release}", cwd=packages / name)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split()[:2] for line in done.stdout.splitlines()]
    assert ["ok", "onnx/model.ort"] in lines
    assert ["ok", "onnx/model_quantized.ort"] in lines


def test_a_model_that_is_not_the_one_recorded_fails_the_check(
    packages: Path, release: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(packages / "ios", tmp_path / "ios")
    expected = copy / "golden" / "model.logits.any.0.bin"
    expected.write_bytes(np.frombuffer(expected.read_bytes(), "<f4")[::-1].tobytes())
    done = run("make", "check", f"ORT={release}", cwd=copy)
    assert done.returncode != 0
    assert "FAIL onnx/model.ort" in done.stdout


@pytest.fixture(scope="module")
def java(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words that start the library behind Kotlin from Java."""
    compiler = shutil.which("javac")
    if compiler is None or shutil.which("cc") is None:
        pytest.skip("needs a C compiler and a Java development kit")
    headers = Path(compiler).resolve().parents[1] / "include"
    folder = tmp_path_factory.mktemp("java")
    (folder / "Pixels.java").write_text(JAVA)
    library = folder / "libvit_edge.so"
    strict = "-std=c11 -O2 -fPIC -shared -Wall -Wextra -Werror -Wno-unused-const-variable -ffp-contract=off"
    includes = [f"-I{headers}", *(f"-I{each}" for each in headers.iterdir() if each.is_dir())]
    sources = ["vit_edge_jni.c", "pixels.c", "-lm", "-o", str(library)]
    built = run("cc", *strict.split(), *includes, *sources, cwd=packages / "android")
    assert (built.returncode, built.stderr) == (0, "")
    compiled = run(compiler, "-d", folder, folder / "Pixels.java")
    assert compiled.returncode == 0, compiled.stderr
    return ["java", "-Xmx128m", "-Xcheck:jni", "-cp", str(folder), "vitedge.Pixels", str(library)]


def started(
    java: list[str], picture: Path, size: tuple[int, int], made: Path
) -> "subprocess.CompletedProcess[str]":
    return run(*java, picture, *map(str, size), made)


def test_the_library_behind_kotlin_makes_the_pixels_of_pillow(
    packages: Path, java: list[str], tmp_path: Path
) -> None:
    about = json.loads((packages / "android" / "model.json").read_text())
    spec = PreprocessSpec.from_json(about["preprocess"])
    noise = np.random.default_rng(2).integers(0, 256, (217, 331, 3), dtype=np.uint8)
    (tmp_path / "rgb").write_bytes(noise.tobytes())
    done = started(java, tmp_path / "rgb", (331, 217), tmp_path / "made")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr  # where a check of JNI's would be told
    expected = load_pixels(Image.fromarray(noise), spec, decoding="exact")
    found = np.frombuffer((tmp_path / "made.bytes").read_bytes(), np.uint8).reshape(expected.shape)
    assert np.abs(found.astype(int) - expected).max() <= 1
    numbers = np.frombuffer((tmp_path / "made.numbers").read_bytes(), "<f4")
    np.testing.assert_allclose(
        numbers.reshape(1, 3, *expected.shape[:2]), normalize(found[None], spec), atol=1e-6
    )


@pytest.mark.parametrize("size", [(332, 217), (0, 5), (-1, -1), (5, -1), (2**31 - 1, 2**31 - 1)])
def test_the_library_behind_kotlin_refuses_what_is_no_picture(
    java: list[str], tmp_path: Path, size: tuple[int, int]
) -> None:
    (tmp_path / "rgb").write_bytes(bytes(217 * 331 * 3))
    done = started(java, tmp_path / "rgb", size, tmp_path / "made")
    assert (done.returncode, done.stdout) == (0, "null\n"), done.stderr


def test_what_onnxruntime_does_not_convert_is_one_sentence(digits: Digits) -> None:
    packed = contents_of(digits.bundle).models[0]
    with pytest.raises(ModelError, match=r"broken\.onnx cannot be made onnxruntime's own format") as caught:
        mobile._to_ort("broken.onnx", packed.model.data[:1000], ())
    assert "\n" not in str(caught.value)
