"""The main job on a published ViT-Tiny with a massive activation, where the data is at hand."""

from pathlib import Path

import numpy as np
import pytest

from vit_edge.host.build import BuildSettings, build_bundle
from vit_edge.host.quantize.types import QuantizeSettings
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.runtime.images import read_images
from vit_edge.runtime.timing import Rounds
from vit_edge.spec import ResizeMode

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


def test_a_massive_activation_survives_quantization(tmp_path: Path) -> None:
    """24 images, 10 to calibrate: too few to pass, enough to tell from what plain static quantization leaves.

    Onnxruntime's own static quantizer reaches at most 6.5 dB on this model, whatever its calibration.
    """
    options = SourceOptions(resize_mode=ResizeMode.SHORT_SIDE, crop_pct=0.9)
    source = resolve(str(DATA / "vit_tiny_imagenet" / "hf"), options)
    check = read_images(DATA / "nips17_eval", source.labels).limited(24)
    calibration = sorted((DATA / "imagenet_calibration").iterdir())[:10]
    settings = BuildSettings(
        calibration=linked(tmp_path / "calibration", calibration),
        data=linked(tmp_path / "check", list(check.paths)),
        quantize=QuantizeSettings(images=10),
        rounds=Rounds(1, 0.0),
    )
    bundle = build_bundle(source, settings, tmp_path / "bundle")
    accuracy = bundle.manifest.accuracy
    assert accuracy is not None
    assert accuracy["n"] == 24
    assert accuracy["agreement"] >= 75
    assert accuracy["logit_sqnr_db"] > 12
    assert accuracy["parity"]["rewrite"]["largest"] <= accuracy["parity"]["rewrite"]["allowed"]
    assert np.isfinite([record["ratio_to_float"] for record in bundle.manifest.latency]).all()
