"""What the compiler of a target is told lies beside its file, hashed like everything else."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.host.bundling.given_times import timed_as
from tests.host.bundling.small_folder import given_costs, small_folder
from tests.host.quantize.small_vit import PREPROCESS
from vit_edge import verify_bundle
from vit_edge.bundle import Bundle
from vit_edge.errors import BundleError
from vit_edge.host.bundling.build import build_bundle
from vit_edge.host.bundling.settings import BuildSettings
from vit_edge.host.hybrid.choose import PROBED, Choice
from vit_edge.host.hybrid.products import products_of
from vit_edge.host.hybrid.rounding import logits_of, noise, rounded
from vit_edge.host.quantize.types import Preset, QuantizeSettings
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.manifest import Role, compiler_name, lowered_name
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.image.preprocess import load_pixels, normalize
from vit_edge.spec import Tolerance
from vit_edge.targets import load_target

__all__ = ["given_costs"]  # a fixture

TARGET = "rknn-rk3588"
SIBLING = "rknn-rk3576"  # of the same file
MODEL, TOLD = lowered_name(TARGET), compiler_name(TARGET)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory.mktemp("beside"), 20, 40)


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    settings = BuildSettings(
        folder / "calibration",
        folder / "check",
        targets=(load_target(TARGET), load_target(SIBLING), load_target("coreml")),
        quantize=QuantizeSettings(Preset.STATIC, 20),
        tolerance=Tolerance(max_drop=90.0, max_changed=95.0),
        bench=timed_as(lambda _: 0.5),
        threads=1,
    )
    return build_bundle(resolve(str(folder / "small.onnx"), SourceOptions()), settings, folder / "bundle")


def test_it_is_one_of_the_bundles_files(bundle: Bundle) -> None:
    entries = verify_bundle(bundle.path).manifest.files
    assert entries[TOLD].role is Role.CONFIG
    assert MODEL in entries


def test_a_target_whose_compiler_does_not_quantize_is_told_nothing(bundle: Bundle) -> None:
    assert compiler_name("coreml") not in bundle.manifest.files
    assert not (bundle.path / compiler_name("coreml")).exists()


def test_a_sibling_is_told_the_same(bundle: Bundle) -> None:
    assert bundle.read(lowered_name(SIBLING)) == bundle.read(MODEL)
    assert bundle.read(compiler_name(SIBLING)) == bundle.read(TOLD)


def test_what_the_verdict_does_not_tell_is_said(bundle: Bundle) -> None:
    accuracy = bundle.manifest.accuracy
    assert accuracy is not None
    told = json.loads((bundle.path / TOLD).read_text())
    (note,) = [each for each in accuracy.notes if each.startswith(MODEL)]
    assert f"expects {told['expected_db'][told['found_by']]:.1f} dB, and no image was run" in note
    assert note in (bundle.path / "README.md").read_text()


def test_most_multiply_adds_of_the_file_are_in_8_bits(bundle: Bundle) -> None:
    products = products_of(onnx.load(bundle.path / MODEL))
    told = json.loads((bundle.path / TOLD).read_text())
    assert set(told["alone_db"]) == {product.name for product in products}
    share = sum(each.macs for each in products if each.name in told["narrow"])
    assert 0.85 <= share / sum(each.macs for each in products) < 1.0


def test_the_ranges_are_of_its_tensors_and_give_what_is_expected(bundle: Bundle, folder: Path) -> None:
    model, told = onnx.load(bundle.path / MODEL), Choice.from_json(json.loads(bundle.read(TOLD)))
    assert set(told.ranges) <= {name for node in model.graph.node for name in node.output}
    narrow = [each for each in products_of(model) if each.name in told.narrow]
    pixels = [load_pixels(path, PREPROCESS)[None] for path in list_images(folder / "calibration").paths]
    feeds = [{"pixel_values": normalize(image, PREPROCESS)} for image in pixels[:PROBED]]
    lost = noise(logits_of(model, feeds), logits_of(rounded(model, narrow, told.ranges), feeds))
    assert -10 * np.log10(lost) == pytest.approx(told.expected_db[told.found_by], abs=0.1)


def test_one_that_was_changed_is_refused(bundle: Bundle) -> None:
    path = bundle.path / TOLD
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"packed", b"picked", 1))
    try:
        with pytest.raises(BundleError, match=r"quantization\.json"):
            verify_bundle(bundle.path)
    finally:
        path.write_bytes(whole)
