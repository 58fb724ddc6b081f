"""Bundles of boxes and of maps: what each home makes of them, held to Python from the image on, or not."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.place_models import NAMES, SIDE, SPEC, detector, segmenter
from tests.manifests import bundle_of_files
from tests.package.conftest import run
from tools.check_package.browser import CHROMIUM, visit
from tools.check_package.modules import link_modules
from vit_edge import Detector, Segmenter
from vit_edge.bundle import Role, read_bundle, write_bundle
from vit_edge.cli import main
from vit_edge.host.bundling.golden import golden_files
from vit_edge.package.homes import Home
from vit_edge.runtime.image.preprocess import random_pixels
from vit_edge.runtime.model.file import read_model
from vit_edge.spec import CropRule, Interpolation, OutputKind, PreprocessSpec, ResizeMode

FLOAT = "onnx/model.onnx"
CROPPED = PreprocessSpec(
    SIDE,
    SIDE,
    ResizeMode.SHORT_SIDE,
    (SIDE + 3,) * 2,
    Interpolation.BICUBIC,
    (0.5,) * 3,
    (0.5,) * 3,
    CropRule.TORCHVISION,
)
KINDS = {"boxes": detector, "maps": segmenter}
REFUSING = [Home.C, Home.ANDROID, Home.IOS]
BOTH = pytest.mark.parametrize("kind", KINDS)


def bundle_of(folder: Path, kind: str, spec: PreprocessSpec = SPEC) -> Path:
    """A bundle of the float model alone, with recorded answers."""
    (folder / "onnx").mkdir(parents=True)
    model = read_model(KINDS[kind](folder / FLOAT, spec))
    golden = golden_files([{FLOAT: model}], random_pixels(3, (SIDE, SIDE)))
    files = {FLOAT: (model.data, Role.FLOAT)} | {name: (data, Role.GOLDEN) for name, data in golden.items()}
    return bundle_of_files(folder / "bundle", files, FLOAT, spec, output=OutputKind.MAP)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: bundle_of(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


@pytest.fixture(scope="module")
def packed(modules: Path, sharp: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """A bundle as a package for Node that can run."""

    def once(bundle: Path) -> Path:
        folder = tmp_path_factory.mktemp("node") / "app"
        assert main(["package", str(bundle), "--for", "node", "-o", str(folder)]) == 0
        link_modules(folder, modules / "onnxruntime-node")
        link_modules(folder, sharp)
        return folder

    return once


def pictures(folder: Path) -> list[Path]:
    """Photos of several forms."""
    random, made = np.random.default_rng(3), []
    for index, size in enumerate([(24, 31), (40, 17), (12, 12), (90, 200)]):
        small = random.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        path = folder / f"{index}.png"
        Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC).save(path)
        made.append(path)
    return made


def script(folder: Path, text: str) -> Any:
    (folder / "test.mjs").write_text(f'import * as app from "./index.mjs";\n{text}\n', encoding="utf-8")
    done = run("node", "test.mjs", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@BOTH
def test_node_holds_every_output_to_what_was_recorded(
    bundles: dict[str, Path], packed: Callable[[Path], Path], kind: str
) -> None:
    folder = packed(bundles[kind])
    done = run("node", "check.mjs", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    told = [line.split()[2] for line in done.stdout.splitlines() if FLOAT in line]
    assert sorted(told) == (
        ["logits", "logits", "pred_boxes", "pred_boxes"] if kind == "boxes" else ["scores"] * 2
    )
    place = folder / "golden" / "model.map0.any.0.bin"
    values = np.frombuffer(place.read_bytes(), "<f4").copy()
    values[-1] += 9
    place.write_bytes(values.tobytes())
    assert run("node", "check.mjs", cwd=folder).returncode == 1


@pytest.mark.parametrize("spec", [SPEC, CROPPED], ids=["resized", "cropped"])
def test_node_finds_the_boxes_that_python_finds(
    packed: Callable[[Path], Path], tmp_path: Path, spec: PreprocessSpec
) -> None:
    """Within what a grey level of the resize moves: 1e-3 of a pixel and of a score."""
    bundle = bundle_of(tmp_path / "made", "boxes", spec)
    folder, paths, detect = packed(bundle), pictures(tmp_path), Detector(bundle)
    names = json.dumps([str(path) for path in paths])
    call = "(p) => app.detect(p, { threshold: 0.2 })"
    text = f"console.log(JSON.stringify(await Promise.all({names}.map({call}))));"
    shown = 0
    for path, found in zip(paths, script(folder, text), strict=True):
        expected = detect(path, threshold=0.2)
        assert [each["label"] for each in found] == [each.label for each in expected]
        for mine, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine["box"], theirs.box, atol=1e-3)
            assert mine["score"] == pytest.approx(theirs.score, abs=1e-3)
        shown += len(found)
    assert shown >= len(paths)


@pytest.mark.parametrize("spec", [SPEC, CROPPED], ids=["resized", "cropped"])
def test_node_paints_the_mask_that_python_paints(
    packed: Callable[[Path], Path], tmp_path: Path, spec: PreprocessSpec
) -> None:
    """But for one pixel in a thousand, where two classes are as good as tied."""
    bundle = bundle_of(tmp_path / "made", "maps", spec)
    folder, paths, segment = packed(bundle), pictures(tmp_path), Segmenter(bundle)
    names = json.dumps([str(path) for path in paths])
    text = (
        f"const found = await Promise.all({names}.map((p) => app.segment(p)));\n"
        "console.log(JSON.stringify(found.map(({ mask, classes }) => "
        "({ data: [...mask.data], width: mask.width, height: mask.height, classes }))));"
    )
    unseen = 0
    for path, found in zip(paths, script(folder, text), strict=True):
        expected = segment(path).mask()
        mine = np.asarray(found["data"]).reshape(found["height"], found["width"])
        assert mine.shape == expected.shape
        assert (mine != expected).mean() <= 1e-3
        assert ((mine == -1) == (expected == -1)).all()
        shares = {each["label"]: each["share"] for each in found["classes"]}
        told = {each.label: each.share for each in segment(path).shares(expected)}
        assert shares == pytest.approx(told, abs=2e-3)
        assert set(shares) <= set(NAMES)
        unseen += int((expected == -1).sum())
    assert (unseen > 0) is (spec is CROPPED)


@pytest.mark.parametrize(
    ("kind", "call", "message"),
    [
        ("boxes", "app.classify(p)", "this model is for detect, not for classify"),
        ("maps", "app.detect(p)", "this model is for segment, not for detect"),
        ("boxes", "app.detect(p, { threshold: 2 })", "threshold must be 0 to 1, got 2"),
        ("maps", "app.segment(p, { threshold: NaN })", "threshold must be a number, got NaN"),
    ],
)
def test_a_call_that_is_not_the_models_is_rejected(
    bundles: dict[str, Path],
    packed: Callable[[Path], Path],
    tmp_path: Path,
    kind: str,
    call: str,
    message: str,
) -> None:
    path = json.dumps(str(pictures(tmp_path)[0]))
    told = "console.log(JSON.stringify(error.message));"
    text = f"const p = {path};\ntry {{ await {call}; }} catch (error) {{ {told} }}"
    assert message in script(packed(bundles[kind]), text)


@BOTH
def test_a_browser_holds_every_output_and_names_what_python_names(
    bundles: dict[str, Path], modules: Path, tmp_path: Path, kind: str
) -> None:
    if CHROMIUM is None:
        pytest.skip("needs chromium or chrome")
    site, paths = tmp_path / "site", pictures(tmp_path)
    words = ["package", str(bundles[kind]), "--for", "web", "-o", str(site), "--modules", str(modules)]
    assert main(words) == 0
    seen = visit(site, paths, ["float"])
    assert seen.result.get("error") is None
    assert seen.result["errors"] == []
    count = 6 if kind == "boxes" else 4  # two pictures, and each output of two inputs
    assert seen.result["checked"] == [
        "done",
        f"All {count} checks hold: this browser computes what was recorded.",
    ]
    for path, found in zip(paths, seen.result["found"], strict=True):
        with Image.open(path) as picture:
            assert found["overlay"] == list(picture.size)
        answers = [(each["label"], each["score"]) for each in found["answers"]]
        if kind == "boxes":
            expected = [(each.label, each.score) for each in Detector(bundles[kind])(path)]
        else:
            segmented = Segmenter(bundles[kind])(path)
            expected = [(each.label, each.share) for each in segmented.shares(segmented.mask())]
        assert [label for label, _ in answers] == [label for label, _ in expected[:12]]
        assert [score for _, score in answers] == pytest.approx(
            [score for _, score in expected[:12]], abs=0.01
        )


@BOTH
@pytest.mark.parametrize("home", ["triton", "kserve"])
def test_a_server_is_told_of_every_output(
    bundles: dict[str, Path], tmp_path: Path, kind: str, home: str
) -> None:
    assert main(["package", str(bundles[kind]), "--for", home, "-o", str(tmp_path / "app")]) == 0
    [config] = (tmp_path / "app" / "models").glob("*/config.pbtxt")
    text = config.read_text()
    shapes = {"logits": [4, 4], "pred_boxes": [4, 4]} if kind == "boxes" else {"scores": [3, SIDE, SIDE]}
    for name, shape in shapes.items():
        assert f'name: "{name}" data_type: TYPE_FP32 dims: {shape}' in text
    cases = json.loads((tmp_path / "app" / "golden" / "cases.json").read_text())["cases"]
    assert {case["output"] for case in cases} == set(shapes)
    about = json.loads((tmp_path / "app" / "model.json").read_text())
    assert about["gives"] == kind
    assert about["files"][0]["outputs"] == shapes
    assert not list(config.parent.glob("labels.txt"))


@BOTH
@pytest.mark.parametrize("home", REFUSING, ids=[home.value for home in REFUSING])
def test_a_home_that_knows_classes_alone_refuses_in_a_sentence(
    bundles: dict[str, Path], tmp_path: Path, kind: str, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["package", str(bundles[kind]), "--for", home.value, "-o", str(tmp_path / "app")]) == 2
    printed = capsys.readouterr().err
    says = f"--for {home.value} packs classifiers, and {bundles[kind]} gives {kind}: choose node, web, triton"
    assert says in printed
    assert f"vit_edge.{'Detector' if kind == 'boxes' else 'Segmenter'} on the device" in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "app").exists()


def test_a_bundle_without_recorded_maps_is_refused(
    bundles: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = read_bundle(bundles["maps"])
    kept = {
        name: bundle.read(name) for name in bundle.manifest.files if "map" not in name and "cases" not in name
    }
    files = {name: entry for name, entry in bundle.manifest.files.items() if name in kept}
    older = write_bundle(tmp_path / "older", kept, dataclasses.replace(bundle.manifest, files=files)).path
    assert main(["package", str(older), "--for", "node", "-o", str(tmp_path / "app")]) == 2
    assert "has no golden/cases.json, by which a home is checked; build it again" in capsys.readouterr().err
