"""The main job on a published ViT-Tiny with a massive activation, where the data is at hand."""

from pathlib import Path

import numpy as np
import pytest

from tests.host.bundling.given_times import FASTER
from vit_edge.host.bundling.build import build_bundle
from vit_edge.host.bundling.settings import BuildSettings
from vit_edge.host.convert.export import export
from vit_edge.host.convert.one_file import export_model
from vit_edge.host.quantize import calibration as calibration_module
from vit_edge.host.quantize.search import search_of
from vit_edge.host.quantize.types import Preset, QuantizeSettings
from vit_edge.host.reference.choose import own_reference
from vit_edge.host.reference.prove import prove
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.runtime.evaluate.dataset import list_images, read_images
from vit_edge.source_parity import ProofState
from vit_edge.spec import ResizeMode, Tolerance

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

pytestmark = pytest.mark.skipif(
    not (DATA / "vit_tiny_imagenet").is_dir(),
    reason="needs ../shared/data: ViT-Tiny weights and ImageNet images",
)


def linked(folder: Path, paths: list[Path]) -> Path:
    """A folder of links to a few images."""
    folder.mkdir()
    for path in paths:
        (folder / f"{path.parent.name}_{path.name}").symlink_to(path)
    return folder


def test_image_files_get_the_answer_of_transformers_pipeline(tmp_path: Path) -> None:
    """40 of the 500 evaluation images; `vit-edge parity` on all of them gives the same, within 6e-6."""
    source = resolve(str(DATA / "vit_tiny_imagenet" / "hf"), SourceOptions())
    export_model(source, tmp_path / "float.onnx")
    images = list_images(DATA / "nips17_eval").limited(40)
    found = prove(own_reference(source), tmp_path / "float.onnx", images)
    assert found.state is ProofState.PROVEN, found.shown
    assert found.agreement == 100
    assert found.largest is not None
    assert found.largest <= 1e-4


def test_a_massive_activation_is_computed_apart_so_that_one_range_is_enough_for_the_rest() -> None:
    """Onnxruntime's own static quantizer reaches at most 6.5 dB on this model, whatever its calibration."""
    options = SourceOptions(resize_mode=ResizeMode.SHORT_SIDE, crop_pct=0.9)
    source = resolve(str(DATA / "vit_tiny_imagenet" / "hf"), options)
    canonical = canonicalise(export(source)[0], source.name)
    calibration = sorted((DATA / "imagenet_calibration").iterdir())[:10]
    settings = QuantizeSettings(Preset.STATIC, images=10)
    found = search_of(canonical, calibration, source.preprocess, settings).first().recipe
    assert {each.where: each.channels for each in found.outliers}["blocks.7.fc2"] == (417,)
    assert found.probe_db > 15  # 10 dB with all channels together


def test_a_static_quantization_that_fails_is_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 images, 10 to calibrate: too few to prove two points, enough to see four of them lost and won back.

    So that it fails, the massive activation stays among the others.
    """
    monkeypatch.setattr(calibration_module, "split_outliers", lambda *_: [])
    options = SourceOptions(resize_mode=ResizeMode.SHORT_SIDE, crop_pct=0.9)
    source = resolve(str(DATA / "vit_tiny_imagenet" / "hf"), options)
    check = read_images(DATA / "nips17_eval", source.labels).limited(100)
    calibration = sorted((DATA / "imagenet_calibration").iterdir())[:10]
    settings = BuildSettings(
        calibration=linked(tmp_path / "calibration", calibration),
        data=linked(tmp_path / "check", list(check.paths)),
        quantize=QuantizeSettings(Preset.STATIC, images=10),
        tolerance=Tolerance(2.0),
        bench=FASTER,  # what float and integers take on a busy machine is not what is tested here
    )
    bundle = build_bundle(source, settings, tmp_path / "bundle")
    raw = bundle.manifest.to_json()
    accuracy, recipe = raw["accuracy"], raw["quantization"]
    static, chosen = recipe["pareto"][1], next(row for row in recipe["pareto"] if row["chosen"])
    assert static["name"] == "static"
    assert static["sqnr_db"] < 12 < accuracy["logit_sqnr_db"]
    assert static["agreement"] < 94 <= accuracy["agreement"]
    assert chosen["name"] == recipe["repair"]["kept"], recipe["pareto"]
    assert accuracy["verdict"] != "FAIL"
    assert accuracy["n"] == 100
    assert accuracy["parity"]["rewrite"]["largest"] <= accuracy["parity"]["rewrite"]["allowed"]
    assert np.isfinite([record.ratio_to_float for record in bundle.manifest.latency]).all()
