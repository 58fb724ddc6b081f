"""The package for Node, run by Node: the Python runtime's answers, from the image file on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.package.conftest import run
from tests.package.digits import Digits
from tools.check_package.modules import link_modules
from vit_edge import Classifier
from vit_edge.cli import main
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.image.decode import decode

ROLES = {"float": "float", "int8": "quantized"}


@pytest.fixture(scope="module")
def package(digits: Digits, modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("node") / "app"
    assert main(["package", str(digits.bundle), "--for", "node", "-o", str(folder)]) == 0
    link_modules(folder, modules / "onnxruntime-node")
    return folder


@pytest.fixture
def with_sharp(package: Path, sharp: Path) -> Path:
    if not (package / "node_modules" / "sharp").exists():
        link_modules(package, sharp)
    return package


def script(folder: Path, text: str) -> object:
    """What a module that imports the package prints as JSON."""
    (folder / "test.mjs").write_text(f'import * as app from "./index.mjs";\n{text}\n', encoding="utf-8")
    done = run("node", "test.mjs", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_check_holds_and_names_every_part(package: Path) -> None:
    done = run("node", "check.mjs", cwd=package)
    assert done.returncode == 0, done.stdout + done.stderr
    parts = [line.split()[:2] for line in done.stdout.splitlines()]
    assert parts == [
        *([["ok", "preprocessing"]] * 2),
        *([["ok", "onnx/model.onnx"]] * 2),
        *([["ok", "onnx/model_quantized.onnx"]] * 2),
    ]


@pytest.mark.parametrize(
    ("file", "place"), [("golden/model.logits.any.0.bin", 2), ("golden/resized.1.bin", 1)]
)
def test_a_wrong_answer_or_pixel_fails_the_check(package: Path, file: str, place: int) -> None:
    before = (package / file).read_bytes()
    values = np.frombuffer(before, "<f4" if "logits" in file else np.uint8).copy()
    values[3] += 9
    (package / file).write_bytes(values.tobytes())
    done = run("node", "check.mjs", cwd=package)
    (package / file).write_bytes(before)
    assert done.returncode == 1
    assert [line.startswith("FAIL") for line in done.stdout.splitlines()] == [n == place for n in range(6)]


@pytest.mark.parametrize("file", ROLES)
def test_it_names_the_classes_that_python_names(digits: Digits, with_sharp: Path, file: str) -> None:
    paths = [str(path) for path in list_images(digits.images / "test").paths[::7]]
    assert len(paths) >= 50
    text = (
        f"const one = await app.open({{ file: '{file}' }}), found = [];\n"
        f"for (const path of {json.dumps(paths)}) found.push(await one.classify(path, {{ top: 10 }}));\n"
        "console.log(JSON.stringify(found));"
    )
    found = script(with_sharp, text)
    assert isinstance(found, list)
    classify = Classifier(digits.bundle, threads=1, model=ROLES[file])
    for path, answers in zip(paths, found, strict=True):
        expected = {each.index: each for each in classify(path, top_k=10)}
        first = classify(path, top_k=1)[0]
        assert (answers[0]["label"], answers[0]["index"]) == (first.label, first.index)
        for each in answers:
            assert each["score"] == pytest.approx(expected[each["index"]].score, abs=1e-4)


def forms(folder: Path, photo: np.ndarray) -> list[Path]:
    """The picture in every form that a file may have."""
    image = Image.fromarray(photo)
    turned = image.getexif()
    turned[0x0112] = 6
    alpha = Image.fromarray(np.dstack([photo, photo[..., 0]]))
    saved: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (image, "plain.png", {}),
        (image, "plain.jpg", {"quality": 90}),
        (image, "turned.jpg", {"quality": 90, "exif": turned}),
        (image, "fine.jpg", {"quality": 95, "subsampling": 0}),
        (image, "plain.webp", {"lossless": True}),
        (alpha, "alpha.png", {}),
        (image.convert("L"), "grey.png", {}),
        (image.convert("L"), "grey.jpg", {}),
        (image.quantize(32), "palette.png", {}),
        (Image.fromarray(photo[..., 0].astype(np.uint16) * 257 + 3), "deep.png", {}),
    ]
    for each, name, more in saved:
        each.save(folder / name, **more)
    return [folder / name for _, name, _ in saved]


def test_files_are_decoded_to_pillows_pixels(with_sharp: Path, tmp_path: Path, photo: np.ndarray) -> None:
    """JPEG: two decoders of one family; one grey level is allowed, none is seen here."""
    paths = forms(tmp_path, photo)
    text = (
        f"const found = [];\nfor (const path of {json.dumps(list(map(str, paths)))}) {{\n"
        "  const { data, width, height } = await app.decoded(path);\n"
        "  found.push([data.length / width / height, width, height, Array.from(data)]);\n}\n"
        "console.log(JSON.stringify(found));"
    )
    answers = script(with_sharp, text)
    assert isinstance(answers, list)
    for path, (channels, width, height, data) in zip(paths, answers, strict=True):
        expected = np.asarray(decode(path)).astype(int)
        found = np.array(data).reshape(height, width, channels)
        assert found.shape == expected.shape, path.name
        assert np.abs(found - expected).max() <= 1, path.name


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("app.classify('absent.png')", "absent.png"),
        ("app.classify(Buffer.from('no image'))", "the image cannot be decoded"),
        ("app.classify(7)", "an image must be a path, a Buffer, or {data, width, height}"),
        ("app.classify({ data: new Uint8Array(5), width: 2, height: 2 })", "3 or 4 bytes"),
        ("app.classify({ data: new Uint8Array(12), width: 2, height: 2 }, { top: 0 })", "top must be"),
        ("app.open({ file: 'fp16' })", "no file is called fp16; there are float, int8"),
    ],
)
def test_a_call_that_cannot_be_answered_is_rejected(with_sharp: Path, call: str, message: str) -> None:
    said = script(with_sharp, f"console.log(JSON.stringify(await {call}.then(() => '', (e) => e.message)));")
    assert message in str(said)


def test_an_image_in_cmyk_is_refused(with_sharp: Path, tmp_path: Path, photo: np.ndarray) -> None:
    Image.fromarray(photo).convert("CMYK").save(tmp_path / "print.jpg")
    call = f"app.classify({json.dumps(str(tmp_path / 'print.jpg'))})"
    said = script(with_sharp, f"console.log(JSON.stringify(await {call}.then(() => '', (e) => e.message)));")
    assert "its colours are CMYK; save it as RGB" in str(said)


def test_a_file_that_is_not_the_packed_one_is_refused(package: Path) -> None:
    path = package / "onnx" / "model.onnx"
    before = path.read_bytes()
    path.write_bytes(before[:-1] + b"x")
    done = run("node", "check.mjs", cwd=package)
    path.write_bytes(before)
    assert done.returncode == 1
    assert "onnx/model.onnx is not the file that was packed (SHA-256 differs)" in done.stderr


def test_telemetry_is_off_before_onnxruntime_is_loaded(package: Path) -> None:
    assert script(package, "console.log(JSON.stringify(process.env.ORT_DISABLE_TELEMETRY));") == "1"
    text = (package / "index.mjs").read_text()
    assert text.index("ORT_DISABLE_TELEMETRY") < text.index('import("onnxruntime-node")')
    assert 'from "onnxruntime-node"' not in text  # which would be loaded first
