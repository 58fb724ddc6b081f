"""torchvision's keys of ViT (models/vision_transformer.py), and those it had before version 0.13."""

from vit_edge.host.sources.checkpoints.layout import KeyNames, Layout, Resampling
from vit_edge.host.sources.types import Library

_PATCHES = r"conv_proj\.weight"
_LAYER = "encoder.layers.encoder_layer_{layer}"
# interpolate_embeddings of the same file
_RESAMPLING = Resampling("torchvision", antialias=False, align_corners=True)
_EPS = 1e-6  # norm_layer of its VisionTransformer


def _keys(up: str, down: str) -> KeyNames:
    return {
        "cls_token": "class_token",
        "pos_embed": "encoder.pos_embedding",
        "patch_embed.proj.{kind}": "conv_proj.{kind}",
        "blocks.{layer}.norm1.{kind}": f"{_LAYER}.ln_1.{{kind}}",
        "blocks.{layer}.attn.qkv.{kind}": f"{_LAYER}.self_attention.in_proj_{{kind}}",
        "blocks.{layer}.attn.proj.{kind}": f"{_LAYER}.self_attention.out_proj.{{kind}}",
        "blocks.{layer}.norm2.{kind}": f"{_LAYER}.ln_2.{{kind}}",
        "blocks.{layer}.mlp.fc1.{kind}": f"{_LAYER}.mlp.{up}.{{kind}}",
        "blocks.{layer}.mlp.fc2.{kind}": f"{_LAYER}.mlp.{down}.{{kind}}",
        "norm.{kind}": "encoder.ln.{kind}",
        "head.{kind}": "heads.head.{kind}",
    }


TORCHVISION = Layout(
    library="torchvision",
    marks=(_PATCHES, r"encoder\.layers\.encoder_layer_0\.mlp\.0\.weight"),
    keys=lambda _: _keys("0", "3"),
    resampling=_RESAMPLING,
    layer_norm_eps=_EPS,
    pipeline=Library.TORCHVISION,
)
TORCHVISION_0_12 = Layout(
    library="torchvision",
    marks=(_PATCHES, r"encoder\.layers\.encoder_layer_0\.mlp\.linear_1\.weight"),
    keys=lambda _: _keys("linear_1", "linear_2"),
    resampling=_RESAMPLING,
    layer_norm_eps=_EPS,
    pipeline=Library.TORCHVISION,
)
