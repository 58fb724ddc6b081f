"""open_clip's CLIP models, saved by open_clip, against its own vectors from the same image files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.host.pictures import picture, pictures_in
from vit_edge.errors import SourceError
from vit_edge.host.convert.apart import canonical_of
from vit_edge.host.convert.export import export
from vit_edge.host.convert.one_file import export_model
from vit_edge.host.reference.choose import own_reference
from vit_edge.host.reference.prove import prove
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.source_parity import ProofState
from vit_edge.spec import OutputKind, ResizeMode

open_clip = pytest.importorskip(
    "open_clip", reason="needs open_clip; `bash tools/libraries_check` runs these tests where it is"
)
RELATIVE = 1e-5  # of the largest number, float32 by two implementations
SIDE = 64
VISION: dict[str, Any] = {"image_size": SIDE, "layers": 3, "width": 128, "patch_size": 16}
TEXT: dict[str, Any] = {"context_length": 16, "vocab_size": 99, "width": 64, "heads": 2, "layers": 1}
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "laion's": ({}, {}),
    "openai's": ({"quick_gelu": True}, {}),
    "metaclip's": ({"custom_text": True}, {}),
    "with layer scale": ({}, {"ls_init_value": 0.1}),
    "clipa's": ({}, {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True}),
    "average before the norm": ({}, {"pool_type": "avg"}),
    "other heads": ({}, {"head_width": 32}),
    "tanh and epsilon": ({}, {"act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-6}}),
    "not square": ({}, {"image_size": [48, 64]}),
}


def folder_of(folder: Path, model: dict[str, Any], vision: dict[str, Any], **recipe: Any) -> Any:
    """As open_clip's push_to_hf_hub writes it; returns open_clip's model."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"embed_dim": 40, "vision_cfg": {**VISION, **vision}, "text_cfg": TEXT, **model}
    whole = {"model_cfg": config, "preprocess_cfg": recipe}
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    torch.manual_seed(0)
    made = open_clip.create_model(f"local-dir:{folder}").eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    save_file(made.state_dict(), folder / "open_clip_model.safetensors")
    return made


def assert_same(model: Any, source: Any) -> None:
    size = source.preprocess.height, source.preprocess.width
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, found = model.encode_image(images, normalize=True), source.module(images)
    assert float((found - expected).abs().max() / expected.abs().max()) <= RELATIVE


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_gives_the_vector_of_open_clip(form: str, tmp_path: Path) -> None:
    recipe: dict[str, Any] = {"resize_mode": "squash"} if form == "not square" else {}
    model = folder_of(tmp_path, *FORMS[form], **recipe)
    source = resolve(str(tmp_path), SourceOptions())
    assert source.output is OutputKind.UNIT_EMBEDDING
    assert source.numbers == 40
    assert_same(model, source)


TRUNKS: dict[str, dict[str, Any]] = {
    "siglip": {"timm_model_name": "vit_base_patch32_siglip_256", "timm_pool": "map", "timm_proj": "none"},
    "eva02-clip": {"timm_model_name": "eva02_base_patch16_clip_224", "timm_pool": "token", "timm_proj": None},
    "gap": {"timm_model_name": "vit_medium_patch16_gap_256", "timm_pool": "avg", "timm_proj": "linear"},
}


@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_tower_of_timm_in_a_folder_of_open_clip_gives_its_vector(trunk: str, tmp_path: Path) -> None:
    side = 224 if trunk == "eva02-clip" else 256
    vision = {"image_size": side, "timm_model_pretrained": False, **TRUNKS[trunk]}
    for key in VISION:
        vision.setdefault(key, VISION[key])
    width = {"siglip": 768, "eva02-clip": 512, "gap": 40}[trunk]
    model = folder_of(tmp_path, {"embed_dim": width, "custom_text": True}, vision)
    source = resolve(str(tmp_path), SourceOptions())
    assert (source.output, source.numbers) == (OutputKind.UNIT_EMBEDDING, width)
    assert_same(model, source)


@pytest.mark.parametrize("form", ["openai's", "clipa's", "with layer scale"])
def test_its_graph_becomes_canonical(form: str, tmp_path: Path) -> None:
    folder_of(tmp_path, *FORMS[form])
    source = resolve(str(tmp_path), SourceOptions())
    described = canonical_of(source, export(source)[0]).description
    assert described is not None
    assert (described.depth, described.width, described.tokens) == (3, 128, 17)


RECIPES: dict[str, dict[str, Any]] = {
    "nothing said": {},
    "siglip's": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"},
    "bilinear": {"interpolation": "bilinear", "mean": [0.1, 0.2, 0.3]},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_from_the_image_file_to_the_vector_open_clip_and_the_runtime_agree(
    recipe: str, tmp_path: Path
) -> None:
    folder_of(tmp_path / "model", {"quick_gelu": True}, {}, **RECIPES[recipe])
    (tmp_path / "images").mkdir()
    images = pictures_in(tmp_path / "images", 4)
    source = resolve(str(tmp_path / "model"), SourceOptions())
    export_model(source, tmp_path / "m.onnx")
    found = prove(own_reference(source), tmp_path / "m.onnx", images)
    assert found.state is ProofState.PROVEN, found.reason
    assert found.largest is not None
    assert found.largest < RELATIVE
    assert found.reference.startswith("open_clip ")


@pytest.mark.parametrize(("ours", "theirs"), [("ViT-S/32", "ViT-S-32"), ("ViT-S-32-alt", "ViT-S-32-alt")])
def test_a_bare_file_is_read_by_its_name(ours: str, theirs: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = open_clip.create_model(theirs, force_quick_gelu=ours != theirs).eval()
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "w.pt")
    source = resolve(str(tmp_path / "w.pt"), SourceOptions(arch=ours))
    assert_same(model, source)


def test_a_bare_file_is_proven_by_open_clip(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-S-32-alt").eval()
    torch.save(model.state_dict(), tmp_path / "w.pt")
    (tmp_path / "images").mkdir()
    source = resolve(str(tmp_path / "w.pt"), SourceOptions(arch="ViT-S-32-alt"))
    export_model(source, tmp_path / "m.onnx")
    found = prove(own_reference(source), tmp_path / "m.onnx", pictures_in(tmp_path / "images", 2))
    assert found.state is ProofState.PROVEN, found.reason


def test_another_image_size_has_the_positions_that_open_clip_makes(tmp_path: Path) -> None:
    folder_of(tmp_path, {}, {})
    source = resolve(str(tmp_path), SourceOptions(image_size=(96, 96)))
    assert any("from 4 x 4 to 6 x 6 patches as in open_clip (bicubic, anti" in each for each in source.notes)
    assert_same(open_clip.create_model(f"local-dir:{tmp_path}", force_image_size=96).eval(), source)


def test_another_size_in_the_config_than_in_the_weights_is_that_of_open_clip(tmp_path: Path) -> None:
    folder_of(tmp_path, {}, {})
    path = tmp_path / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["vision_cfg"]["image_size"] = 96
    path.write_text(json.dumps(config))
    model = open_clip.create_model(f"local-dir:{tmp_path}").eval()
    assert_same(model, resolve(str(tmp_path), SourceOptions()))


def test_images_of_a_palette_part_at_the_resize(tmp_path: Path) -> None:
    """open_clip resizes and crops before it converts to RGB, so that such a file has other pixels."""
    folder_of(tmp_path / "model", {}, {})
    (tmp_path / "images").mkdir()
    picture(0).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "images" / "p.png")
    source = resolve(str(tmp_path / "model"), SourceOptions())
    export_model(source, tmp_path / "m.onnx")
    found = prove(own_reference(source), tmp_path / "m.onnx", list_images(tmp_path / "images"))
    assert found.state is ProofState.DIFFERS
    assert "the first stage that differs: resize" in found.reason


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"resize_mode": ResizeMode.EXACT, "crop_pct": 0.9}, "has no resize exact to 71x71 for 64x64"),
        ({"crop_pct": 0.9}, "has no resize short_side to 71x71"),
    ],
)
def test_what_open_clip_cannot_be_told_is_not_proven(
    stated: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder_of(tmp_path, {}, {})
    with pytest.raises(SourceError, match=message):
        own_reference(resolve(str(tmp_path), SourceOptions(**stated)))
