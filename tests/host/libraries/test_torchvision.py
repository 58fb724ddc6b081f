"""torchvision's models, saved by torchvision, against its own answers from the same image files."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.host.pictures import pictures_in
from vit_edge.errors import SourceError
from vit_edge.host.convert.one_file import export_model
from vit_edge.host.reference.choose import own_reference
from vit_edge.host.reference.prove import prove
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.host.vit import VisionTransformer
from vit_edge.source_parity import ProofState
from vit_edge.spec import CropRule, ResizeMode

torchvision = pytest.importorskip(
    "torchvision", reason="needs torchvision; `bash tools/libraries_check` runs these tests where it is"
)
RELATIVE = 1e-5  # of the largest number, float32 by two implementations
VITS = ("vit_b_16", "vit_b_32")


def model_of(name: str, **sizes: Any) -> Any:
    """As torchvision makes it, every parameter moved from its start."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None, **sizes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


def assert_same(model: Any, source: Any) -> None:
    size = source.preprocess.height, source.preprocess.width
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, found = model(images), source.module(images)
    assert float((found - expected).abs().max() / expected.abs().max()) <= RELATIVE


@pytest.mark.parametrize("name", VITS)
def test_a_saved_model_gives_torchvisions_logits(name: str, tmp_path: Path) -> None:
    model = model_of(name, num_classes=7, image_size=64)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    assert_same(model, resolve(str(tmp_path / "w.pth"), SourceOptions(arch=name)))


@pytest.mark.parametrize("name", ["swin_t", "swin_v2_t.IMAGENET1K_V1"])
def test_a_saved_swin_gives_torchvisions_logits(name: str, tmp_path: Path) -> None:
    model = model_of(name.partition(".")[0], num_classes=7)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    assert_same(model, resolve(str(tmp_path / "w.pth"), SourceOptions(arch=name)))


def test_from_the_image_file_a_swin_of_torchvision_and_the_runtime_agree(tmp_path: Path) -> None:
    model = model_of("swin_t", num_classes=7)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "images").mkdir()
    images = pictures_in(tmp_path / "images", 2)
    source = resolve(str(tmp_path / "w.safetensors"), SourceOptions(arch="swin_t"))
    export_model(source, tmp_path / "m.onnx")
    found = prove(own_reference(source), tmp_path / "m.onnx", images)
    assert found.state is ProofState.PROVEN, found.reason


def test_from_the_image_file_to_the_label_torchvision_and_the_runtime_agree(tmp_path: Path) -> None:
    model = model_of("vit_b_32", num_classes=7, image_size=224)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "images").mkdir()
    images = pictures_in(tmp_path / "images", 4)
    source = resolve(str(tmp_path / "w.safetensors"), SourceOptions(arch="vit_b_32.IMAGENET1K_V1"))
    export_model(source, tmp_path / "m.onnx")
    found = prove(own_reference(source), tmp_path / "m.onnx", images)
    assert found.state is ProofState.PROVEN, found.reason
    assert found.largest is not None
    assert found.largest < RELATIVE
    assert found.reference.startswith("torchvision ")


def test_its_presets_are_those_of_its_published_weights() -> None:
    from vit_edge.host.sources.torchvision_data import PRESETS

    for name, known in PRESETS.items():
        theirs = {each.name: each for each in torchvision.models.get_model_weights(name)}
        assert known.keys() == theirs.keys()
        for tag, preset in known.items():
            made = theirs[tag].transforms()
            assert (made.crop_size, made.resize_size) == ([preset.crop], [preset.resize]), (name, tag)
            assert made.interpolation.value == preset.interpolation.value
            assert torchvision.models.get_model_weights(name).DEFAULT.name in known


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"crop_rule": CropRule.TRANSFORMERS}, "does not halve an odd margin as stated"),
        ({"resize_mode": ResizeMode.EXACT}, "has no resize exact"),
        ({"image_size": (96, 96)}, "does not resample positions"),
    ],
)
def test_what_torchvision_cannot_be_told_is_not_proven(
    stated: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model = model_of("vit_b_32", num_classes=7, image_size=64)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    options = dataclasses.replace(SourceOptions(arch="vit_b_32"), **stated)
    with pytest.raises(SourceError, match=message):
        own_reference(resolve(str(tmp_path / "w.pth"), options))


def test_other_weights_in_the_same_place_are_found_out(tmp_path: Path) -> None:
    model = model_of("vit_b_32", num_classes=7, image_size=64)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    (tmp_path / "images").mkdir()
    images = pictures_in(tmp_path / "images", 2)
    source = resolve(str(tmp_path / "w.pth"), SourceOptions(arch="vit_b_32"))
    export_model(source, tmp_path / "m.onnx")
    with torch.no_grad():
        model.heads.head.bias.add_(torch.linspace(-1, 1, 7))
    torch.save(model.state_dict(), tmp_path / "w.pth")
    assert prove(own_reference(source), tmp_path / "m.onnx", images).state is ProofState.DIFFERS


def test_the_position_embedding_is_resampled_as_torchvision_does_it(tmp_path: Path) -> None:
    model = model_of("vit_b_32", num_classes=7, image_size=96)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    source = resolve(str(tmp_path / "w.pth"), SourceOptions(arch="vit_b_32", image_size=(160, 160)))
    theirs = torchvision.models.vision_transformer.interpolate_embeddings(160, 32, model.state_dict())
    assert isinstance(source.module, VisionTransformer)
    np.testing.assert_allclose(
        source.module.pos_embed.detach().numpy(), theirs["encoder.pos_embedding"].numpy(), atol=1e-6
    )
