"""The packages for Android and iOS as far as they run here: models, check in C, the library behind Kotlin."""

import json
import shutil
import subprocess
import sys
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
DOUBLES = Path(__file__).parent / "doubles"  # of Android's and onnxruntime's classes in Java
JAVA_PLACE = Path("/usr/share/java")  # where Debian keeps libraries in Java
JARS = [JAVA_PLACE / name for name in ("com.android.json.jar", "kotlin-stdlib.jar", "kotlin-stdlib-jdk7.jar")]
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
def compiler() -> str:
    """Of Java."""
    found = shutil.which("javac")
    if found is None or shutil.which("cc") is None:
        pytest.skip("needs a C compiler and a Java development kit")
    return found


def library(package: Path, folder: Path, compiler: str) -> Path:
    """The library behind Kotlin, built into a folder; a warning is an error."""
    headers = Path(compiler).resolve().parents[1] / "include"
    strict = "-std=c11 -O2 -fPIC -shared -Wall -Wextra -Werror -Wno-unused-const-variable -ffp-contract=off"
    includes = [f"-I{headers}", *(f"-I{each}" for each in headers.iterdir() if each.is_dir())]
    sources = ["vit_edge_jni.c", "pixels.c", "-lm", "-o", str(folder / "libvit_edge.so")]
    built = run("cc", *strict.split(), *includes, *sources, cwd=package)
    assert (built.returncode, built.stderr) == (0, "")
    return folder / "libvit_edge.so"


@pytest.fixture(scope="module")
def pixels(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words that start the library behind Kotlin from Java, but for the library."""
    folder = tmp_path_factory.mktemp("java")
    (folder / "Pixels.java").write_text(JAVA)
    compiled = run(compiler, "-d", folder, folder / "Pixels.java")
    assert compiled.returncode == 0, compiled.stderr
    return ["java", "-Xmx128m", "-Xcheck:jni", "-cp", str(folder), "vitedge.Pixels"]


@pytest.fixture(scope="module")
def java(
    packages: Path, compiler: str, pixels: list[str], tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """The words that start the library behind Kotlin from Java."""
    return [*pixels, str(library(packages / "android", tmp_path_factory.mktemp("library"), compiler))]


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
    assert (done.returncode, done.stdout) == (0, ""), done.stderr  # where JNI's check tells what is wrong
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


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("if (!given) return NULL;", "given[(*env)->GetArrayLength(env, rgb)] = 1;"),
        ("NewByteArray(env, 3 * HEIGHT * WIDTH)", "NewByteArray(env, 3 * HEIGHT * WIDTH - 1)"),
    ],
)
def test_a_library_that_writes_beyond_its_arrays_is_told(
    packages: Path, compiler: str, pixels: list[str], tmp_path: Path, before: str, after: str
) -> None:
    """So the silence above means something."""
    copy = shutil.copytree(packages / "android", tmp_path / "android")
    source = (copy / "vit_edge_jni.c").read_text()
    assert source.count(before) == 1
    (copy / "vit_edge_jni.c").write_text(source.replace(before, after))
    wrong = library(copy, tmp_path, compiler)
    (tmp_path / "rgb").write_bytes(bytes(217 * 331 * 3))
    done = started([*pixels, str(wrong)], tmp_path / "rgb", (331, 217), tmp_path / "made")
    assert done.returncode != 0


@pytest.fixture(scope="module")
def kotlin(packages: Path, compiler: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words that start the class in Kotlin: Android's JSON, stand-ins for its other classes and for
    onnxruntime's, which have Python's onnxruntime run the model.
    """
    if shutil.which("kotlinc") is None or not all(each.is_file() for each in JARS):
        pytest.skip("needs Kotlin's compiler and Android's JSON: apt-get install kotlin libandroid-json-java")
    folder = tmp_path_factory.mktemp("kotlin")
    compiled = run(compiler, "-d", folder, *sorted(DOUBLES.rglob("*.java")))
    assert compiled.returncode == 0, compiled.stdout + compiled.stderr
    path = ":".join(map(str, (folder, *JARS)))
    sources = [packages / "android" / "VitEdge.kt", DOUBLES / "Main.kt"]
    built = run("kotlinc", "-Werror", "-d", folder / "app.jar", "-cp", path, *sources)
    assert built.returncode == 0, built.stderr
    library(packages / "android", folder, compiler)
    python = f"{sys.executable}\n{DOUBLES / 'run.py'}"
    java = ["java", f"-Drun={python}", f"-Djava.library.path={folder}", "-cp", f"{folder / 'app.jar'}:{path}"]
    return [*java, "MainKt", str(packages / "android")]


@pytest.mark.parametrize(("file", "role"), [("float", "float"), ("int8", "quantized")])
def test_the_class_in_kotlin_answers_as_python_does(
    digits: Digits, kotlin: list[str], tmp_path: Path, file: str, role: str
) -> None:
    """Probabilities to 1e-4: the .ort file was optimised beforehand, and may add in another order."""
    python = Classifier(digits.bundle, threads=1, model=role)
    for path in list_images(digits.images / "test").paths[::150]:
        picture = Image.open(path).convert("RGB")
        (tmp_path / "rgb").write_bytes(picture.tobytes())
        done = run(*kotlin, file, tmp_path / "rgb", str(picture.width), str(picture.height))
        assert done.returncode == 0, done.stderr
        found = [line.split("\t") for line in done.stdout.splitlines()]
        expected = python(path, top_k=3)
        assert [(label, int(index)) for label, index, _ in found] == [(e.label, e.index) for e in expected]
        for (_, _, score), each in zip(found, expected, strict=True):
            assert float(score) == pytest.approx(each.score, abs=1e-4)


def test_what_onnxruntime_does_not_convert_is_one_sentence(digits: Digits) -> None:
    packed = contents_of(digits.bundle).models[0]
    with pytest.raises(ModelError, match=r"broken\.onnx cannot be made onnxruntime's own format") as caught:
        mobile._to_ort("broken.onnx", packed.model.data[:1000], ())
    assert "\n" not in str(caught.value)
