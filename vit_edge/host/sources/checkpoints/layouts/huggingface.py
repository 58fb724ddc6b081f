"""Hugging Face's keys of ViT and DeiT: those of files, and those that transformers 5 has in memory."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from vit_edge.errors import SourceError
from vit_edge.host.sources.checkpoints.layout import LEFT_OVER, KeyNames, Layout, Resampling
from vit_edge.host.vit import Distillation, VitConfig

_PATCHES = r"(?:vit|deit)\.embeddings\.patch_embeddings\.projection\.weight"
_LEFT_OVER = rf"(?:vit|deit)\.(?:pooler\.dense\.(?:weight|bias)|embeddings\.mask_token)|{LEFT_OVER}"
_RESAMPLING = Resampling("transformers", antialias=False)  # interpolate_pos_encoding of its embeddings
_EPS = 1e-12  # ViTConfig's default, and what the published ViT and DeiT have


def _of_files(distillation: Distillation) -> KeyNames:
    stem = _stem(distillation)
    layer = f"{stem}.encoder.layer.{{layer}}"
    attention = f"{layer}.attention"
    return {
        **_outside_layers(stem, distillation),
        "blocks.{layer}.norm1.{kind}": f"{layer}.layernorm_before.{{kind}}",
        "blocks.{layer}.attn.qkv.{kind}": (
            f"{attention}.attention.query.{{kind}}",
            f"{attention}.attention.key.{{kind}}",
            f"{attention}.attention.value.{{kind}}",
        ),
        "blocks.{layer}.attn.proj.{kind}": f"{attention}.output.dense.{{kind}}",
        "blocks.{layer}.norm2.{kind}": f"{layer}.layernorm_after.{{kind}}",
        "blocks.{layer}.mlp.fc1.{kind}": f"{layer}.intermediate.dense.{{kind}}",
        "blocks.{layer}.mlp.fc2.{kind}": f"{layer}.output.dense.{{kind}}",
    }


def _in_memory(distillation: Distillation) -> KeyNames:
    stem = _stem(distillation)
    layer = f"{stem}.layers.{{layer}}"
    attention = f"{layer}.attention"
    return {
        **_outside_layers(stem, distillation),
        "blocks.{layer}.norm1.{kind}": f"{layer}.layernorm_before.{{kind}}",
        "blocks.{layer}.attn.qkv.{kind}": (
            f"{attention}.q_proj.{{kind}}",
            f"{attention}.k_proj.{{kind}}",
            f"{attention}.v_proj.{{kind}}",
        ),
        "blocks.{layer}.attn.proj.{kind}": f"{attention}.o_proj.{{kind}}",
        "blocks.{layer}.norm2.{kind}": f"{layer}.layernorm_after.{{kind}}",
        "blocks.{layer}.mlp.fc1.{kind}": f"{layer}.mlp.fc1.{{kind}}",
        "blocks.{layer}.mlp.fc2.{kind}": f"{layer}.mlp.fc2.{{kind}}",
    }


def _outside_layers(stem: str, distillation: Distillation) -> KeyNames:
    head = "cls_classifier" if distillation is Distillation.HEAD else "classifier"
    return {
        "cls_token": f"{stem}.embeddings.cls_token",
        "dist_token": f"{stem}.embeddings.distillation_token",
        "pos_embed": f"{stem}.embeddings.position_embeddings",
        "patch_embed.proj.{kind}": f"{stem}.embeddings.patch_embeddings.projection.{{kind}}",
        "norm.{kind}": f"{stem}.layernorm.{{kind}}",
        "head.{kind}": f"{head}.{{kind}}",
        "head_dist.{kind}": "distillation_classifier.{kind}",
    }


def _stem(distillation: Distillation) -> str:
    return "vit" if distillation is Distillation.NONE else "deit"


def _distillation(keys: Iterable[str]) -> Distillation:
    present = set(keys)
    if not any(key.startswith("deit.") for key in present):
        return Distillation.NONE
    return Distillation.HEAD if "distillation_classifier.weight" in present else Distillation.TOKEN


HUGGINGFACE = Layout(
    library="Hugging Face",
    marks=(_PATCHES,),
    keys=_of_files,
    resampling=_RESAMPLING,
    layer_norm_eps=_EPS,
    distillation=_distillation,
    left_over=_LEFT_OVER,
    has_folders=True,
)
HUGGINGFACE_5 = Layout(
    library="Hugging Face",
    marks=(_PATCHES, r"(?:vit|deit)\.layers\.0\.attention\.q_proj\.weight"),
    keys=_in_memory,
    resampling=_RESAMPLING,
    layer_norm_eps=_EPS,
    distillation=_distillation,
    left_over=_LEFT_OVER,
    has_folders=True,
)


def to_huggingface(state: Mapping[str, Tensor], config: VitConfig) -> dict[str, Tensor]:
    """The state dict of `VisionTransformer(config)` under the keys of a Hugging Face file, for publishing.

    Query, key and value are copied apart, so that no two tensors share memory.

    Raises:
        SourceError: a configuration that Hugging Face's ViT and DeiT classifiers do not have.
    """
    if config.register_tokens or config.norm_after_pool or not config.cls_token:
        raise SourceError(
            "Hugging Face's ViT has a class token, no register tokens and its norm before the pooling: "
            "this configuration cannot be written in its layout"
        )
    result: dict[str, Tensor] = {}
    for name, keys in HUGGINGFACE.table(config, "the model").items():
        for key, part in zip(keys, torch.chunk(state[name].detach(), len(keys)), strict=True):
            result[key] = part.clone()
    return result
