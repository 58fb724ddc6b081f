"""CLIP's image tower under OpenAI's keys, against transformers' vectors."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from vit_edge.errors import SourceError, UsageError
from vit_edge.host.reference.choose import own_reference
from vit_edge.host.sources import SourceOptions, resolve
from vit_edge.host.sources.open_clip_config import CLIP_MEAN, CLIP_STD, tower_named
from vit_edge.host.sources.types import Library
from vit_edge.spec import CropRule, Interpolation, OutputKind, ResizeMode

TOLERANCE = 1e-5  # of numbers below 1, float32 by two implementations
SIDE = 64
VISION: dict[str, Any] = {"image_size": SIDE, "layers": 2, "width": 128, "patch_size": 32, "head_width": 32}


def theirs(activation: str = "gelu", dim: int = 128, layers: int = 2, heads: int = 4) -> Any:
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * dim,
        image_size=SIDE,
        patch_size=32,
        projection_dim=40,
        hidden_act=activation,
    )
    model = transformers.CLIPVisionModelWithProjection(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def vectors(model: Any, images: Tensor) -> Tensor:
    with torch.inference_mode():
        made: Tensor = torch.nn.functional.normalize(model(pixel_values=images).image_embeds, dim=1)
    return made


def openai_state(model: Any) -> dict[str, Tensor]:
    """The weights under OpenAI's keys, with some of the text tower beside them."""
    state = {key.removeprefix("vision_model."): value for key, value in model.state_dict().items()}
    made = {
        "visual.conv1.weight": state["embeddings.patch_embedding.weight"],
        "visual.class_embedding": state["embeddings.class_embedding"],
        "visual.positional_embedding": state["embeddings.position_embedding.weight"],
        "visual.proj": state["visual_projection.weight"].t().contiguous(),
        "logit_scale": torch.tensor(4.6),
        "token_embedding.weight": torch.ones(9, 4),
        "transformer.resblocks.0.ln_1.weight": torch.ones(4),
        "positional_embedding": torch.ones(7, 4),
        "text_projection": torch.ones(4, 40),
        "ln_final.weight": torch.ones(4),
    }
    for kind in ("weight", "bias"):
        made[f"visual.ln_pre.{kind}"] = state[f"pre_layrnorm.{kind}"]
        made[f"visual.ln_post.{kind}"] = state[f"post_layernorm.{kind}"]
        for layer in range(model.config.num_hidden_layers):
            ours, of = f"visual.transformer.resblocks.{layer}", f"encoder.layers.{layer}"
            parts = [state[f"{of}.self_attn.{each}_proj.{kind}"] for each in "qkv"]
            made[f"{ours}.attn.in_proj_{kind}"] = torch.cat(parts)
            made[f"{ours}.attn.out_proj.{kind}"] = state[f"{of}.self_attn.out_proj.{kind}"]
            for name, other in (
                ("ln_1", "layer_norm1"),
                ("ln_2", "layer_norm2"),
                ("mlp.c_fc", "mlp.fc1"),
                ("mlp.c_proj", "mlp.fc2"),
            ):
                made[f"{ours}.{name}.{kind}"] = state[f"{of}.{other}.{kind}"]
    return {key: value.clone() for key, value in made.items()}


def folder_of(folder: Path, model: Any, config: dict[str, Any], **recipe: Any) -> str:
    folder.mkdir(exist_ok=True)
    save_file(openai_state(model), folder / "open_clip_model.safetensors")
    whole = {
        "model_cfg": {"embed_dim": 40, "vision_cfg": VISION, "text_cfg": {}, **config},
        "preprocess_cfg": recipe,
    }
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    return str(folder)


def images() -> Tensor:
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("activation", "quick"), [("gelu", False), ("quick_gelu", True)])
def test_a_folder_of_open_clip_gives_the_vector_of_transformers(
    activation: str, quick: bool, tmp_path: Path
) -> None:
    model = theirs(activation)
    source = resolve(folder_of(tmp_path, model, {"quick_gelu": quick}), SourceOptions())
    assert source.module is not None
    with torch.inference_mode():
        torch.testing.assert_close(source.module(images()), vectors(model, images()), atol=TOLERANCE, rtol=0)
    assert (source.output, source.labels, source.numbers) == (OutputKind.UNIT_EMBEDDING, (), 40)
    assert source.huggingface_config["hidden_act"] == activation
    assert "its text tower is left out" in source.notes[0]


@pytest.mark.parametrize("quick", [False, True])
def test_the_activation_matters(quick: bool, tmp_path: Path) -> None:
    """So that a config that names the wrong one would be found out by the tests above."""
    model = theirs("gelu" if quick else "quick_gelu")
    source = resolve(folder_of(tmp_path, model, {"quick_gelu": quick}), SourceOptions())
    assert source.module is not None
    with torch.inference_mode():
        apart = (source.module(images()) - vectors(model, images())).abs().max()
    assert apart > 100 * TOLERANCE


@pytest.mark.parametrize(("name", "activation"), [("ViT-S/32", "quick_gelu"), ("ViT-S-32", "gelu")])
@pytest.mark.parametrize("prefix", ["", "module.", "clip."])
def test_a_bare_file_is_read_by_its_name(name: str, activation: str, prefix: str, tmp_path: Path) -> None:
    model = theirs(activation, dim=384, heads=6)
    torch.save(
        {"state_dict": {prefix + k: v for k, v in openai_state(model).items()}, "epoch": 3},
        tmp_path / "w.pt",
    )
    source = resolve(str(tmp_path / "w.pt"), SourceOptions(arch=name))
    assert source.module is not None
    with torch.inference_mode():
        torch.testing.assert_close(source.module(images()), vectors(model, images()), atol=TOLERANCE, rtol=0)
    spec = source.preprocess
    assert (spec.mean, spec.std, spec.resize_mode) == (CLIP_MEAN, CLIP_STD, ResizeMode.SHORT_SIDE)
    assert (spec.resize, spec.interpolation, spec.crop) == (
        (SIDE, SIDE),
        Interpolation.BICUBIC,
        CropRule.TORCHVISION,
    )
    assert "images are prepared as OpenAI's CLIP does it" in source.notes[-1]


def test_a_file_beside_open_clips_config_is_read_with_it(tmp_path: Path) -> None:
    model = theirs("quick_gelu")
    folder_of(tmp_path, model, {"quick_gelu": True})
    torch.save(openai_state(model), tmp_path / "finetuned.pt")
    source = resolve(str(tmp_path / "finetuned.pt"), SourceOptions())
    assert source.name == "finetuned"
    assert source.own_pipeline is None  # open_clip would take the folder's own weights


@pytest.mark.parametrize(
    ("recipe", "mode", "interpolation", "mean"),
    [
        ({}, ResizeMode.SHORT_SIDE, Interpolation.BICUBIC, CLIP_MEAN),
        ({"resize_mode": "squash", "mean": 0.5}, ResizeMode.EXACT, Interpolation.BICUBIC, (0.5,) * 3),
        ({"interpolation": "bilinear"}, ResizeMode.SHORT_SIDE, Interpolation.BILINEAR, CLIP_MEAN),
    ],
)
def test_its_config_says_how_images_are_prepared(
    recipe: dict[str, Any],
    mode: ResizeMode,
    interpolation: Interpolation,
    mean: tuple[float, ...],
    tmp_path: Path,
) -> None:
    spec = resolve(folder_of(tmp_path, theirs(), {}, **recipe), SourceOptions()).preprocess
    assert (spec.resize_mode, spec.interpolation, spec.mean) == (mode, interpolation, mean)


def test_another_size_in_its_config_is_the_one_that_it_runs_at(tmp_path: Path) -> None:
    config = {"vision_cfg": {**VISION, "image_size": 96}}
    source = resolve(folder_of(tmp_path, theirs(), config), SourceOptions())
    assert (source.preprocess.height, source.preprocess.resize) == (96, (96, 96))
    assert any("from 2 x 2 to 3 x 3 patches as in open_clip" in note for note in source.notes)


def test_transformers_folder_wins_where_both_are(tmp_path: Path) -> None:
    """As the hub's folders of laion have it."""
    model = theirs()
    folder_of(tmp_path, model, {})
    model.save_pretrained(tmp_path)
    size = {"height": SIDE, "width": SIDE}
    transformers.CLIPImageProcessorPil(size=size, crop_size=size).save_pretrained(tmp_path)
    assert "transformers" in resolve(str(tmp_path), SourceOptions()).notes[0]


def test_without_open_clip_the_proof_says_what_to_install(tmp_path: Path, monkeypatch: Any) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "open_clip", None)
    source = resolve(folder_of(tmp_path, theirs(), {}), SourceOptions())
    assert source.own_pipeline is not None
    assert source.own_pipeline.library is Library.OPEN_CLIP
    with pytest.raises(SourceError, match=r"open_clip cannot be imported .*pip install open_clip_torch"):
        own_reference(source)


# --- names


@pytest.mark.parametrize(
    ("name", "heads", "patch", "quick", "known"),
    [
        ("ViT-B/32", 12, 32, True, "ViT-B-32-quickgelu"),
        ("ViT-L/14@336px", 16, 14, True, "ViT-L-14-336-quickgelu"),
        ("ViT-B-16", 12, 16, False, "ViT-B-16"),
        ("ViT-L-14-336-quickgelu", 16, 14, True, "ViT-L-14-336-quickgelu"),
        ("ViT-H-14-worldwide-quickgelu", 16, 14, True, "ViT-H-14-worldwide-quickgelu"),
        ("ViT-bigG-14", 16, 14, False, "ViT-bigG-14"),
        ("ViT-B-16-plus-240", 14, 16, False, "ViT-B-16-plus-240"),
    ],
)
def test_a_name_says_what_shapes_do_not(name: str, heads: int, patch: int, quick: bool, known: str) -> None:
    named = tower_named(name)
    assert (named.heads, named.patch, named.quick, named.open_clips_name) == (heads, patch, quick, known)


@pytest.mark.parametrize("name", ["ViT-X-32", "ViT-B", "ViT-B-16-SigLIP", "ViT-L-14-CLIPA", "ViT-B/32-plus?"])
def test_other_names_are_refused(name: str, tmp_path: Path) -> None:
    save_file(openai_state(theirs()), tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match=r"unknown architecture .*as by OpenAI .* or open_clip"):
        resolve(str(tmp_path / "w.safetensors"), SourceOptions(arch=name))


# --- what is refused


def test_a_file_without_a_name_asks_for_one(tmp_path: Path) -> None:
    save_file(openai_state(theirs()), tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match="show neither its heads nor its activation: name it with --arch"):
        resolve(str(tmp_path / "w.safetensors"), SourceOptions())


def test_a_name_of_other_shapes_is_refused(tmp_path: Path) -> None:
    save_file(openai_state(theirs()), tmp_path / "w.safetensors")
    with pytest.raises(SourceError, match=r"shape \(128, 3, 32, 32\), which is not that of ViT-B/32"):
        resolve(str(tmp_path / "w.safetensors"), SourceOptions(arch="ViT-B/32"))


def test_a_name_of_clip_for_other_keys_is_refused(tmp_path: Path) -> None:
    save_file({"patch_embed.proj.weight": torch.zeros(3, 3, 4, 4)}, tmp_path / "w.safetensors")
    with pytest.raises(SourceError, match="does not have the keys of ViT-B/32: check the architecture"):
        resolve(str(tmp_path / "w.safetensors"), SourceOptions(arch="ViT-B/32"))


@pytest.mark.parametrize(
    ("lost", "added", "message"),
    [
        ("visual.ln_post.weight", None, "it lacks norm.bias|has the unexpected norm.bias"),
        ("visual.transformer.resblocks.1.mlp.c_fc.bias", None, r"it lacks blocks\.1\.mlp\.fc1\.bias"),
        (None, "visual.transformer.resblocks.0.attn.gate", r"the unexpected blocks\.0\.attn\.gate"),
        (None, "visual.layer1.0.conv1.weight", "whose image tower is a ResNet"),
        (None, "visual.attn_pool.query", "is a CoCa, whose image tower pools by several queries"),
        (None, "adapter.weight", "has adapter.weight beside|the unexpected adapter.weight"),
        (None, "text.transformer.layer", None),
    ],
)
def test_weights_are_never_made_up_nor_left_out_unsaid(
    lost: str | None, added: str | None, message: str | None, tmp_path: Path
) -> None:
    folder_of(tmp_path, theirs(), {})
    state = {key: value for key, value in openai_state(theirs()).items() if key != lost}
    save_file(state | ({added: torch.ones(3)} if added else {}), tmp_path / "open_clip_model.safetensors")
    if message is None:
        assert resolve(str(tmp_path), SourceOptions()).numbers == 40
        return
    with pytest.raises(SourceError, match=message):
        resolve(str(tmp_path), SourceOptions())


@pytest.mark.parametrize(
    ("config", "recipe", "message"),
    [
        ({"vision_cfg": {**VISION, "timm_model_name": "convnext_base"}}, {}, "is 'convnext_base' of timm"),
        ({"vision_cfg": {**VISION, "layers": [3, 4, 6, 3]}}, {}, "whose image tower is a ResNet"),
        ({"vision_cfg": {**VISION, "qk_norm": True}}, {}, "qk_norm of vision_cfg is not supported"),
        ({"vision_cfg": {**VISION, "pool_type": "none"}}, {}, "pool_type 'none' is not one of tok, avg"),
        ({"vision_cfg": {**VISION, "act_kwargs": {"x": 1}}}, {}, "act_kwargs .* is not supported"),
        ({"vision_cfg": {**VISION, "norm_kwargs": {"eps": 2.0}}}, {}, "norm_kwargs .* is not supported"),
        ({"vision_cfg": {**VISION, "width": "wide"}}, {}, "width must be an integer"),
        ({"vision_cfg": {**VISION, "head_width": 3}}, {}, "is no multiple of heads"),
        ({"vision_cfg": {**VISION, "image_size": 80}}, {}, "is no multiple of patch_size"),
        ({"vision_cfg": 3}, {}, "vision_cfg must be an object"),
        ({}, {"resize_mode": "longest"}, "resize_mode 'longest' to 64x64 has no recipe here"),
        ({}, {"interpolation": "lanczos"}, "interpolation 'lanczos' is not one of"),
        ({}, {"std": [0, 1, 1]}, "std must be three numbers"),
    ],
)
def test_a_config_that_says_something_else_is_refused(
    config: dict[str, Any], recipe: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, theirs(), config, **recipe)
    with pytest.raises(SourceError, match=message):
        resolve(folder, SourceOptions())


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(SourceError, match=r"has none of open_clip_model.safetensors"):
        resolve(str(tmp_path), SourceOptions())
