"""timm's names beyond plain ViT without timm, against transformers' models."""

import json
import sys
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
from vit_edge.host.sources.timm_names import timm_names
from vit_edge.host.varied.config import Pool, Turning
from vit_edge.spec import Interpolation, OutputKind, ResizeMode

TOLERANCE = 2e-5  # of numbers about 1, float32 by two implementations
SIGLIP, DINOV3 = "vit_base_patch32_siglip_256", "vit_small_patch16_dinov3"
KINDS = ("weight", "bias")


def spread(model: Any) -> Any:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model.eval()


def siglip() -> Any:
    torch.manual_seed(0)
    config = transformers.SiglipVisionConfig(
        hidden_size=768,
        num_hidden_layers=2,
        num_attention_heads=12,
        intermediate_size=3072,
        image_size=256,
        patch_size=32,
        hidden_act="gelu_pytorch_tanh",
    )
    return spread(transformers.SiglipVisionModel(config))


def dinov3() -> Any:
    torch.manual_seed(0)
    config = transformers.DINOv3ViTConfig(
        hidden_size=384,
        num_hidden_layers=2,
        num_attention_heads=6,
        intermediate_size=1536,
        num_register_tokens=4,
        patch_size=16,
        image_size=256,
        query_bias=False,
        value_bias=False,
        key_bias=False,
    )
    return spread(transformers.DINOv3ViTModel(config))


def timm_siglip(model: Any) -> dict[str, Tensor]:
    """A SigLIP under timm's keys, which are those of vision_transformer.py."""
    state = {key.removeprefix("vision_model."): value for key, value in model.state_dict().items()}
    made = {
        "pos_embed": state["embeddings.position_embedding.weight"][None],
        "attn_pool.latent": state["head.probe"],
    }
    for kind in KINDS:
        made[f"patch_embed.proj.{kind}"] = state[f"embeddings.patch_embedding.{kind}"]
        made[f"norm.{kind}"] = state[f"post_layernorm.{kind}"]
        query, both = state[f"head.attention.in_proj_{kind}"].split([768, 1536])
        made[f"attn_pool.q.{kind}"], made[f"attn_pool.kv.{kind}"] = query, both
        made[f"attn_pool.proj.{kind}"] = state[f"head.attention.out_proj.{kind}"]
        made[f"attn_pool.norm.{kind}"] = state[f"head.layernorm.{kind}"]
        for fc in ("fc1", "fc2"):
            made[f"attn_pool.mlp.{fc}.{kind}"] = state[f"head.mlp.{fc}.{kind}"]
        for layer in range(2):
            ours, theirs = f"blocks.{layer}", f"encoder.layers.{layer}"
            parts = [state[f"{theirs}.self_attn.{each}_proj.{kind}"] for each in "qkv"]
            made[f"{ours}.attn.qkv.{kind}"] = torch.cat(parts)
            made[f"{ours}.attn.proj.{kind}"] = state[f"{theirs}.self_attn.out_proj.{kind}"]
            for name, other in (("norm1", "layer_norm1"), ("norm2", "layer_norm2")):
                made[f"{ours}.{name}.{kind}"] = state[f"{theirs}.{other}.{kind}"]
            for fc in ("fc1", "fc2"):
                made[f"{ours}.mlp.{fc}.{kind}"] = state[f"{theirs}.mlp.{fc}.{kind}"]
    return {key: value.clone() for key, value in made.items()}


def timm_dinov3(model: Any) -> dict[str, Tensor]:
    """A DINOv3 under timm's keys, which are those of eva.py."""
    state = model.state_dict()
    layers = next(key.partition("0.")[0] for key in state if ".0.norm1" in f".{key}")
    made = {"cls_token": state["embeddings.cls_token"], "reg_token": state["embeddings.register_tokens"]}
    for kind in KINDS:
        made[f"patch_embed.proj.{kind}"] = state[f"embeddings.patch_embeddings.{kind}"]
        made[f"norm.{kind}"] = state[f"norm.{kind}"]
        for layer in range(2):
            ours, theirs = f"blocks.{layer}", f"{layers}{layer}"
            made[f"{ours}.attn.proj.{kind}"] = state[f"{theirs}.attention.o_proj.{kind}"]
            for name in ("norm1", "norm2"):
                made[f"{ours}.{name}.{kind}"] = state[f"{theirs}.{name}.{kind}"]
            for fc, other in (("fc1", "up_proj"), ("fc2", "down_proj")):
                made[f"{ours}.mlp.{fc}.{kind}"] = state[f"{theirs}.mlp.{other}.{kind}"]
    for layer in range(2):
        ours, theirs = f"blocks.{layer}", f"{layers}{layer}"
        parts = [state[f"{theirs}.attention.{each}_proj.weight"] for each in "qkv"]
        made[f"{ours}.attn.qkv.weight"] = torch.cat(parts)
        for number in (1, 2):
            made[f"{ours}.gamma_{number}"] = state[f"{theirs}.layer_scale{number}.lambda1"]
    return {key: value.clone() for key, value in made.items()}


def saved(state: dict[str, Tensor], folder: Path) -> str:
    save_file(state, folder / "model.safetensors")
    return str(folder / "model.safetensors")


def images(side: int = 256) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def given(source: Any, pixels: Tensor) -> Tensor:
    with torch.inference_mode():
        made: Tensor = source.module(pixels)
    return made


def test_a_siglip_gives_the_vector_of_transformers(tmp_path: Path) -> None:
    model = siglip()
    source = resolve(f"timm:{SIGLIP}.v2_webli@{saved(timm_siglip(model), tmp_path)}", SourceOptions())
    with torch.inference_mode():
        expected = model(pixel_values=images()).pooler_output
    torch.testing.assert_close(given(source, images()), expected, atol=TOLERANCE, rtol=0)
    assert (source.output, source.numbers, source.labels) == (OutputKind.EMBEDDING, 768, ())
    spec = source.preprocess
    # as timm has it for the tower alone; open_clip squashes
    assert (spec.resize_mode, spec.resize) == (ResizeMode.SHORT_SIDE, (284, 284))
    assert spec.interpolation is Interpolation.BICUBIC
    assert spec.mean == (0.5, 0.5, 0.5)


def test_a_dinov3_gives_the_mean_of_the_patches_of_transformers(tmp_path: Path) -> None:
    """timm pools DINOv3 by the mean, transformers gives all tokens."""
    model = dinov3()
    source = resolve(f"timm:{DINOV3}@{saved(timm_dinov3(model), tmp_path)}", SourceOptions())
    with torch.inference_mode():
        expected = model(pixel_values=images()).last_hidden_state[:, 5:].mean(1)
    # timm's norm behind the mean is none here: DINOv3's own stands in front of it
    torch.testing.assert_close(given(source, images()), expected, atol=TOLERANCE, rtol=0)
    assert "it has no classifier" in source.notes[0]


def hub_folder(folder: Path, state: dict[str, Tensor], **changes: Any) -> str:
    saved(state, folder)
    config = {"architecture": SIGLIP, "pretrained_cfg": {"input_size": [3, 256, 256]}, **changes}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def with_head(state: dict[str, Tensor], classes: int = 3) -> dict[str, Tensor]:
    return {**state, "head.weight": torch.randn(classes, 768), "head.bias": torch.randn(classes)}


def test_a_folder_of_the_hub_has_its_labels_and_data_config(tmp_path: Path) -> None:
    state = with_head(timm_siglip(siglip()))
    recipe = {"input_size": [3, 256, 256], "crop_pct": 0.8, "mean": [0.1, 0.2, 0.3], "std": [0.5] * 3}
    folder = hub_folder(tmp_path, state, label_names=["a", "b", "c"], pretrained_cfg=recipe)
    source = resolve(folder, SourceOptions())
    assert (source.output, source.labels) == (OutputKind.SINGLE_LABEL, ("a", "b", "c"))
    assert source.preprocess.resize == (320, 320)
    assert source.preprocess.mean == (0.1, 0.2, 0.3)
    alone = resolve(str(tmp_path / "model.safetensors"), SourceOptions())
    assert torch.equal(given(source, images()), given(alone, images()))


def test_another_size_resamples_the_positions(tmp_path: Path) -> None:
    file = saved(timm_siglip(siglip()), tmp_path)
    source = resolve(f"timm:{SIGLIP}@{file}", SourceOptions(image_size=(128, 128)))
    assert given(source, images(128)).shape == (2, 768)
    assert any("from 8 x 8 to 4 x 4 patches as in timm" in note for note in source.notes)


def test_without_timm_the_proof_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    source = resolve(f"timm:{SIGLIP}@{saved(timm_siglip(siglip()), tmp_path)}", SourceOptions())
    with pytest.raises(SourceError, match="timm cannot be imported"):
        own_reference(source)


CLIP = {
    "image_size": 256,
    "timm_model_name": SIGLIP,
    "timm_pool": "map",
    "timm_proj": "none",
}


def open_clip_folder(folder: Path, state: dict[str, Tensor], **changes: Any) -> str:
    whole = {f"visual.trunk.{key}": value for key, value in state.items()}
    beside = {"logit_scale": torch.zeros(1), "text.positional_embedding": torch.ones(3, 4)}
    save_file({**whole, **beside}, folder / "open_clip_model.safetensors")
    config = {"model_cfg": {"embed_dim": 768, "vision_cfg": {**CLIP, **changes}, "text_cfg": {}}}
    recipe = {"preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}}
    (folder / "open_clip_config.json").write_text(json.dumps(config | recipe))
    return str(folder)


def test_a_siglip_of_open_clip_gives_the_vector_of_transformers_at_length_1(tmp_path: Path) -> None:
    model = siglip()
    source = resolve(open_clip_folder(tmp_path, timm_siglip(model)), SourceOptions())
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(model(pixel_values=images()).pooler_output, dim=1)
    torch.testing.assert_close(given(source, images()), expected, atol=TOLERANCE, rtol=0)
    assert source.output is OutputKind.UNIT_EMBEDDING
    assert (source.preprocess.resize_mode, source.preprocess.mean) == (ResizeMode.EXACT, (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timm_model_name": "convnext_base"}, "is 'convnext_base' of timm, which is not read from here"),
        ({"timm_proj": "mlp"}, "with timm_proj 'mlp' is not supported"),
        ({"timm_pool": "abs_attn"}, "timm_pool 'abs_attn' with timm_proj 'none' is not supported"),
        ({"image_size": 224}, "image_size is not that of vit_base_patch32_siglip_256, 256x256"),
        ({"timm_model_name": "vit_base_patch16_siglip_256"}, "does not have the parts of vit_base_patch16"),
        ({"timm_model_name": None}, "does not have the keys that .* speaks of"),
    ],
)
def test_a_tower_of_timm_that_is_another_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = open_clip_folder(tmp_path, timm_siglip(siglip()), **changes)
    with pytest.raises(SourceError, match=message):
        resolve(folder, SourceOptions())


def test_a_name_for_a_clip_whose_tower_is_timms_is_refused(tmp_path: Path) -> None:
    open_clip_folder(tmp_path, timm_siglip(siglip()))
    (tmp_path / "open_clip_config.json").unlink()
    with pytest.raises(UsageError, match="whose image tower is timm's: leave --arch out"):
        resolve(str(tmp_path / "open_clip_model.safetensors"), SourceOptions(arch="ViT-B-32"))


# --- what is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vit_base_patch16_siglip_224", "does not have the parts and the width of vit_base_patch16_siglip"),
        ("vit_base_patch32_clip_224", "does not have the parts and the width"),
        ("vit_base_patch32_siglip_256.mine", "unknown timm tag 'mine' of .* known are v2_webli"),
        ("eva02_enormous_patch14_clip_224", "is a EVA-02 of timm that is read through timm alone"),
        ("swin_tiny_patch4_window7_224", "lacks"),
    ],
)
def test_another_name_is_refused(text: str, message: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    file = saved(timm_siglip(siglip()), tmp_path)
    with pytest.raises((SourceError, UsageError), match=message):
        resolve(f"timm:{text}@{file}", SourceOptions())


@pytest.mark.parametrize(
    ("lost", "added", "message"),
    [
        ("attn_pool.q.weight", None, r"it lacks attn_pool\.q\.weight"),
        ("blocks.1.mlp.fc2.bias", None, r"it lacks blocks\.1\.mlp\.fc2\.bias"),
        (None, "blocks.1.attn.gate", r"the unexpected blocks\.1\.attn\.gate"),
        (None, "attn_pool.pos_embed", r"the unexpected attn_pool\.pos_embed"),
        (None, "mask_token", None),
    ],
)
def test_weights_are_never_made_up_nor_left_out_unsaid(
    lost: str | None, added: str | None, message: str | None, tmp_path: Path
) -> None:
    state = {key: value for key, value in timm_siglip(siglip()).items() if key != lost}
    file = saved(state | ({added: torch.ones(3)} if added else {}), tmp_path)
    if message is None:
        assert resolve(f"timm:{SIGLIP}@{file}", SourceOptions()).numbers == 768
        return
    with pytest.raises(SourceError, match=message):
        resolve(f"timm:{SIGLIP}@{file}", SourceOptions())


def test_keys_of_timm_that_do_not_say_all_ask_for_a_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no plain ViT, which do not say all of it: name it with --arch"):
        resolve(saved(timm_siglip(siglip()), tmp_path), SourceOptions())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_args": {"qk_norm": True}}, "model_args qk_norm may change what the model computes"),
        ({"global_pool": "max"}, "global_pool 'max' is not one of token, avg, map"),
        ({"pretrained_cfg": 3}, "pretrained_cfg must be an object"),
    ],
)
def test_a_folder_that_says_something_else_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = hub_folder(tmp_path, timm_siglip(siglip()), **changes)
    with pytest.raises(SourceError, match=message):
        resolve(folder, SourceOptions())


# --- the table


def test_the_table_says_what_papers_say() -> None:
    names = timm_names()
    assert len(names) > 150
    assert names["vit_so400m_patch14_siglip_224"].pool is Pool.MAP
    turned = names["eva02_large_patch14_448"].rotation
    assert turned is not None
    assert (turned.kind, turned.reference) == (Turning.EVA02, (16, 16))
    assert names["vit_large_patch14_clip_quickgelu_336"].activation.value == "quick_gelu"
    assert names["swinv2_base_window12to16_192to256"].trained == (12, 12, 12, 6)
    for name, known in names.items():
        assert known.tags, name
        assert known.parts or known.window is not None, name
