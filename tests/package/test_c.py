"""The package in C, built as a stranger builds it and run under the sanitizers."""

import dataclasses
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
from vit_edge import Classifier, Session, read_model
from vit_edge.cli import main
from vit_edge.package.c import model_header, text
from vit_edge.package.contents import contents_of
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.image.preprocess import load_pixels
from vit_edge.spec import OutputKind

ROLES = {"float": "float", "int8": "quantized"}
SANITIZED = "-O1 -g -Werror -Wconversion -fsanitize=address,undefined -fno-sanitize-recover=all"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of onnxruntime as it lies on a machine: the library of the wheel, our part of the header."""
    libraries = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if shutil.which("cc") is None or shutil.which("make") is None or not libraries:
        pytest.skip("needs a C compiler, make, and a wheel of onnxruntime with libonnxruntime.so")
    folder = tmp_path_factory.mktemp("onnxruntime")
    (folder / "lib").mkdir()
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / "lib" / name).symlink_to(libraries[0])
    (folder / "include").symlink_to(WORKERS / "abi")
    return folder


@pytest.fixture(scope="module")
def package(digits: Digits, release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("c") / "app"
    assert main(["package", str(digits.bundle), "--for", "c", "-o", str(folder)]) == 0
    made = run("make", f"ORT={release}", f"CFLAGS={SANITIZED}", cwd=folder)
    assert made.returncode == 0, made.stderr
    return folder


def classify(folder: Path, *words: str | Path) -> "subprocess.CompletedProcess[str]":
    return run("./classify", *words, cwd=folder)


def test_the_check_holds_and_names_every_part(package: Path) -> None:
    done = classify(package, "--check")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split()[:2] for line in done.stdout.splitlines()]
    assert lines[:2] == [["ok", "golden/picture.0.bin"], ["ok", "golden/picture.1.bin"]]
    assert ["ok", "onnx/model.onnx"] in lines
    assert ["ok", "onnx/model_quantized.onnx"] in lines


@pytest.mark.parametrize("value", [9.0, float("nan")])
@pytest.mark.parametrize("file", ["golden/model.logits.any.0.bin", "golden/resized.1.bin"])
def test_a_wrong_answer_or_pixel_fails_the_check(package: Path, file: str, value: float) -> None:
    before = (package / file).read_bytes()
    values = np.frombuffer(before, "<f4" if "logits" in file else np.uint8).copy()
    values[3] = values[3] + (value if values.dtype == np.float32 else 9)
    (package / file).write_bytes(values.tobytes())
    done = classify(package, "--check")
    (package / file).write_bytes(before)
    assert done.returncode == 1
    assert "FAIL" in done.stdout


@pytest.mark.parametrize(
    "file", ["golden/model.logits.any.0.bin", "golden/resized.1.bin", "golden/picture.0.bin"]
)
def test_a_recorded_file_of_another_size_fails_the_check(package: Path, file: str) -> None:
    before = (package / file).read_bytes()
    (package / file).write_bytes(before[:-4])
    done = classify(package, "--check")
    (package / file).write_bytes(before)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("file", ROLES)
def test_it_names_the_classes_that_python_names(
    digits: Digits, package: Path, tmp_path: Path, file: str
) -> None:
    paths = list_images(digits.images / "test").paths[::25]
    assert len(paths) >= 15
    python = Classifier(digits.bundle, threads=1, model=ROLES[file])
    for path in paths:
        Image.open(path).convert("RGB").save(tmp_path / "photo.ppm")
        done = classify(package, tmp_path / "photo.ppm", file)
        assert (done.returncode, done.stderr) == (0, "")
        found = [line.split(" ", 2) for line in done.stdout.splitlines()]
        expected = python(path, top_k=5)
        assert found[0][1:] == [str(expected[0].index), expected[0].label]
        assert [float(each[0]) for each in found] == pytest.approx([e.score for e in expected], abs=1e-4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no whole binary PPM"),
        (b"P6 4 4 255\n" + bytes(47), "is no whole binary PPM"),
        (b"P6 4 4 65535\n" + bytes(96), "is no whole binary PPM"),
        (b"P6 -4 4 255\n" + bytes(48), "is no whole binary PPM"),
        (b"P6 99999999 99999999 255\n" + bytes(48), "is no whole binary PPM"),
        (b"P6 40000 1 255\n" + bytes(120_000), "an image of 40000 x 1 pixels cannot be resized"),
        (b"P6 4 4 255", "is no whole binary PPM"),
        (b"\x89PNG", "is no whole binary PPM"),
    ],
)
def test_what_is_no_image_is_refused(package: Path, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.ppm").write_bytes(content)
    done = run("env", "ASAN_OPTIONS=detect_leaks=0", "./classify", tmp_path / "x.ppm", cwd=package)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Sanitizer" not in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "usage: "), (["absent.ppm"], "absent.ppm: No such file"), (["x", "fp16"], "fp16")],
)
def test_a_call_that_cannot_be_answered_is_one_line(package: Path, words: list[str], message: str) -> None:
    done = classify(package, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("kind", [OutputKind.MULTI_LABEL, OutputKind.REGRESSION, OutputKind.SINGLE_LABEL])
def test_scores_are_made_by_what_the_numbers_mean(
    digits: Digits, release: Path, tmp_path: Path, kind: OutputKind
) -> None:
    """Labels with every character that C could read otherwise; the model is the same, whatever its kind."""
    contents = contents_of(digits.bundle)
    labels = tuple(f'{index} "é\\n??/%s\t' for index in range(10))
    folder = tmp_path / "app"
    assert main(["package", str(digits.bundle), "--for", "c", "-o", str(folder)]) == 0
    header = model_header(dataclasses.replace(contents, output=kind, labels=labels))
    (folder / "model.h").write_text(header, encoding="ascii")
    assert run("make", f"ORT={release}", "CFLAGS=-O0 -Werror", cwd=folder).returncode == 0
    path = list_images(digits.images / "test").paths[0]
    Image.open(path).convert("RGB").save(tmp_path / "photo.ppm")
    done = classify(folder, tmp_path / "photo.ppm", "float")
    found = [line.split(" ", 2) for line in done.stdout.splitlines()]
    model = read_model(digits.bundle, "float")
    logits = Session(model).run(load_pixels(path, contents.preprocess)[None])[0].astype(float)
    expected = {
        OutputKind.MULTI_LABEL: 1 / (1 + np.exp(-logits)),
        OutputKind.REGRESSION: logits,
        OutputKind.SINGLE_LABEL: np.exp(logits) / np.exp(logits).sum(),
    }[kind]
    order = np.argsort(-expected)[:5] if kind is not OutputKind.REGRESSION else np.arange(10)
    assert [int(each[1]) for each in found] == order.tolist()
    assert [float(each[0]) for each in found] == pytest.approx(expected[order].tolist(), abs=1e-4)
    assert [each[2] for each in found] == [labels[index] for index in order]


def test_strings_of_c_are_ascii() -> None:
    assert text('a"\\?é\n') == '"a\\042\\134\\077\\303\\251\\012"'


def test_cmake_builds_it_too(package: Path, release: Path, tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("needs cmake")
    configured = run("cmake", "-S", package, "-B", tmp_path, f"-DORT={release}")
    assert configured.returncode == 0, configured.stderr
    assert run("cmake", "--build", tmp_path).returncode == 0
    assert run(tmp_path / "classify", "--check", cwd=package).returncode == 0
