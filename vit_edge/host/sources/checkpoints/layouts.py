"""Which key of a checkpoint holds which parameter, for each layout in which ViT weights are published.

A layout is a table from the parameter's name in `VisionTransformer` to the keys that hold it; three keys
stand for query, key and value, stacked in this order.
"""

import enum
from collections.abc import Mapping

import torch
from torch import Tensor

from vit_edge.errors import SourceError
from vit_edge.host.vit import Distillation, VitConfig

KeyTable = dict[str, tuple[str, ...]]


class Layout(enum.Enum):
    """Who named the keys."""

    TIMM = "timm"  # also the state dict of our own VisionTransformer
    HUGGINGFACE = "Hugging Face"  # files and transformers 4: vit.encoder.layer.N.attention.attention.query
    HUGGINGFACE_5 = "Hugging Face transformers 5"  # in memory: vit.layers.N.attention.q_proj

    @property
    def resampling(self) -> str:
        """How the library of these keys resamples positions for another image size, in words."""
        if self is Layout.TIMM:
            return "timm (bicubic, antialiased)"
        return "transformers (bicubic, not antialiased)"


_LAYER_PARTS = {  # per encoder layer: ours, Hugging Face, Hugging Face as transformers 5 names it in memory
    "norm1": ("layernorm_before", "layernorm_before"),
    "attn.proj": ("attention.output.dense", "attention.o_proj"),
    "norm2": ("layernorm_after", "layernorm_after"),
    "mlp.fc1": ("intermediate.dense", "mlp.fc1"),
    "mlp.fc2": ("output.dense", "mlp.fc2"),
}
_QKV_PARTS = (
    tuple(f"attention.attention.{part}" for part in ("query", "key", "value")),
    tuple(f"attention.{part}_proj" for part in ("q", "k", "v")),
)


_CLIP_KEY = "visual.conv1.weight"
_NOT_READ = {  # how a key ends by which the layout of a library is known: whose it is
    "encoder.layers.encoder_layer_0.self_attention.in_proj_weight": "torchvision",
    "patch_embed.projection.weight": "OpenMMLab (mmpretrain)",
}


def detect_layout(keys: Mapping[str, Tensor], where: str) -> Layout:
    """Recognise the layout from the patch embedding's and the first layer's key.

    Raises:
        SourceError: no known layout; the message shows some of the keys found.
    """
    if "patch_embed.proj.weight" in keys:
        return Layout.TIMM
    for stem in ("vit", "deit"):
        if f"{stem}.embeddings.patch_embeddings.projection.weight" in keys:
            modern = f"{stem}.layers.0.attention.q_proj.weight" in keys
            return Layout.HUGGINGFACE_5 if modern else Layout.HUGGINGFACE
    if "embeddings.patch_embeddings.projection.weight" in keys:
        raise SourceError(f"{where} is a backbone without classifier: pass a classifier's checkpoint")
    if any(key.endswith(_CLIP_KEY) for key in keys):
        raise SourceError(
            f"{where} has the keys that OpenAI and open_clip keep a CLIP under, which are not read: pass "
            "transformers' folder of the model, with --labels-text, or the model itself as module:callable"
        )
    for ending, library in _NOT_READ.items():
        if any(key.endswith(ending) for key in keys):
            raise SourceError(
                f"{where} has the keys that {library} keeps a ViT under, which are not read: pass the model "
                "itself as module:callable"
            )
    shown = ", ".join(sorted(keys)[:4]) or "none"
    raise SourceError(
        f"{where} has neither Hugging Face's nor timm's keys of a ViT or DeiT (found {shown}, ...): "
        "pass a classifier's checkpoint, or the model itself as module:callable"
    )


def key_table(layout: Layout, config: VitConfig) -> KeyTable:
    """Every parameter of `VisionTransformer(config)` with the keys that hold it in this layout."""
    if layout is Layout.TIMM:
        return _timm_table(config)
    return _huggingface_table(layout, config)


def _timm_table(config: VitConfig) -> KeyTable:
    names = [*_embedding_names(config), "patch_embed.proj.weight", "patch_embed.proj.bias"]
    for index in range(config.depth):
        names += [f"blocks.{index}.{part}.{kind}" for part in _LAYER_PARTS for kind in ("weight", "bias")]
        names += [f"blocks.{index}.attn.qkv.{kind}" for kind in _qkv_kinds(config)]
    final = ["fc_norm" if config.norm_after_pool else "norm", "head"]
    final += ["head_dist"] if config.distillation is Distillation.HEAD else []
    names += [f"{part}.{kind}" for part in final for kind in ("weight", "bias")]
    return {name: (name,) for name in names}


def _huggingface_table(layout: Layout, config: VitConfig) -> KeyTable:
    distilled = config.distillation is not Distillation.NONE
    modern = layout is Layout.HUGGINGFACE_5
    stem = "deit" if distilled else "vit"
    layers = f"{stem}.layers" if modern else f"{stem}.encoder.layer"
    hf_names = {
        "cls_token": "cls_token",
        "dist_token": "distillation_token",
        "pos_embed": "position_embeddings",
    }
    table: KeyTable = {
        name: (f"{stem}.embeddings.{hf_names[name]}",)
        for name in _embedding_names(config)
        if name in hf_names
    }
    for kind in ("weight", "bias"):
        table[f"patch_embed.proj.{kind}"] = (f"{stem}.embeddings.patch_embeddings.projection.{kind}",)
        table[f"norm.{kind}"] = (f"{stem}.layernorm.{kind}",)
        if config.distillation is Distillation.HEAD:
            table[f"head.{kind}"] = (f"cls_classifier.{kind}",)
            table[f"head_dist.{kind}"] = (f"distillation_classifier.{kind}",)
        else:
            table[f"head.{kind}"] = (f"classifier.{kind}",)
    for index in range(config.depth):
        for ours, theirs in _LAYER_PARTS.items():
            for kind in ("weight", "bias"):
                table[f"blocks.{index}.{ours}.{kind}"] = (f"{layers}.{index}.{theirs[modern]}.{kind}",)
        for kind in _qkv_kinds(config):
            table[f"blocks.{index}.attn.qkv.{kind}"] = tuple(
                f"{layers}.{index}.{part}.{kind}" for part in _QKV_PARTS[modern]
            )
    return table


def _embedding_names(config: VitConfig) -> list[str]:
    present = {
        "cls_token": config.cls_token,
        "dist_token": config.distillation is not Distillation.NONE,
        "reg_token": config.register_tokens > 0,
        "pos_embed": True,
    }
    return [name for name, wanted in present.items() if wanted]


def _qkv_kinds(config: VitConfig) -> tuple[str, ...]:
    return ("weight", "bias") if config.qkv_bias else ("weight",)


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
    for name, keys in key_table(Layout.HUGGINGFACE, config).items():
        for key, part in zip(keys, torch.chunk(state[name].detach(), len(keys)), strict=True):
            result[key] = part.clone()
    return result
