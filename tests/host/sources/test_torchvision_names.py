"""torchvision's names and their transforms, without torchvision."""

import dataclasses
from pathlib import Path

import pytest
import torch

from vit_edge.errors import SourceError, UsageError
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.host.sources.archs import IMAGENET_MEAN, TORCHVISION_ARCHS
from vit_edge.host.sources.checkpoints.layout import QKV
from vit_edge.host.sources.checkpoints.layouts.torchvision import TORCHVISION
from vit_edge.host.sources.infer import described
from vit_edge.host.sources.types import Library
from vit_edge.host.vit import Distillation, VisionTransformer
from vit_edge.spec import CropRule, Interpolation, ResizeMode


def saved(path: Path, classes: int = 1000, size: int = 64) -> str:
    """Untrained weights of vit_b_32 under torchvision's keys."""
    arch = TORCHVISION_ARCHS["vit_b_32"]
    shown = {"heads.head.weight": torch.zeros(classes, arch.dim)}
    shown[TORCHVISION.key(QKV, Distillation.NONE, kind="bias")] = torch.zeros(1)
    config = described(arch, shown, TORCHVISION, "made")
    model = VisionTransformer(dataclasses.replace(config, image_size=(size, size)))
    table = TORCHVISION.table(model.config, "made")
    torch.save({key: model.state_dict()[name] for name, (key,) in table.items()}, path)
    return str(path)


@pytest.mark.parametrize(
    ("name", "size", "resize", "interpolation"),
    [
        ("vit_b_32", 224, 256, Interpolation.BILINEAR),
        ("vit_b_32.IMAGENET1K_V1", 224, 256, Interpolation.BILINEAR),
        ("vit_b_32", 64, 73, Interpolation.BILINEAR),  # 64 * 256 // 224
    ],
)
def test_a_name_says_the_transform(
    name: str, size: int, resize: int, interpolation: Interpolation, tmp_path: Path
) -> None:
    source = resolve(saved(tmp_path / "w.pth", size=size), SourceOptions(arch=name))
    spec = source.preprocess
    assert (spec.height, spec.resize_mode, spec.resize) == (size, ResizeMode.SHORT_SIDE, (resize, resize))
    assert (spec.interpolation, spec.mean, spec.crop) == (
        interpolation,
        IMAGENET_MEAN,
        CropRule.TORCHVISION,
    )
    assert source.own_pipeline is not None
    assert source.own_pipeline.library is Library.TORCHVISION
    assert any("no weights of torchvision are named" in note for note in source.notes) is ("." not in name)
    assert any("scaled in proportion" in note for note in source.notes) is (size != 224)


def test_a_fine_tuned_head_is_noted(tmp_path: Path) -> None:
    source = resolve(saved(tmp_path / "w.pth", classes=7), SourceOptions(arch="vit_b_32"))
    assert any("a head of 7 classes is not that of vit_b_32.IMAGENET1K_V1" in each for each in source.notes)


def test_unknown_weights_are_refused_with_the_known_ones(tmp_path: Path) -> None:
    file = saved(tmp_path / "w.pth")
    with pytest.raises(UsageError, match="unknown torchvision weights 'V2' of vit_b_32: known are IMA"):
        resolve(file, SourceOptions(arch="vit_b_32.V2"))


def test_a_name_of_other_shapes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"check the architecture|is not the described ViT"):
        resolve(saved(tmp_path / "w.pth"), SourceOptions(arch="vit_l_16"))


def test_a_name_of_timm_has_timms_transform_and_no_pipeline(tmp_path: Path) -> None:
    """torchvision's own would prepare images otherwise, and timm does not read these keys."""
    source = resolve(saved(tmp_path / "w.pth"), SourceOptions(arch="vit_base_patch32_224"))
    assert source.own_pipeline is None
    assert source.preprocess.resize == (71, 71)  # floor(64 / 0.9)
