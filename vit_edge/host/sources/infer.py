"""What a bare state dict says about its own architecture, by its keys and shapes."""

import dataclasses
import math
from collections.abc import Mapping

from torch import Tensor

from vit_edge.errors import SourceError
from vit_edge.host.sources.archs import WIDTHS, Arch, config_of
from vit_edge.host.sources.checkpoints import Layout
from vit_edge.host.vit import Distillation, Pooling, VitConfig

_EPS = 1e-12  # transformers' default, and what the published ViT and DeiT have


def infer_arch(state: Mapping[str, Tensor], layout: Layout, where: str) -> Arch:
    """The published architecture that has these shapes.

    Shapes do not show the number of attention heads, so the width, depth and feed-forward width must be those
    of a published model, whose heads are known.

    Raises:
        SourceError: other shapes.
    """
    stem, blocks, feed = _places(state, layout)
    projection = state.get(f"{stem}weight")
    first = state.get(feed)
    if projection is None or projection.ndim != 4 or first is None:
        raise SourceError(f"{where} does not show its architecture: name it with --arch")
    dim, patch = projection.shape[0], (projection.shape[2], projection.shape[3])
    depth = len({key.split(".")[blocks.count(".")] for key in state if key.startswith(blocks)})
    heads = {(width, layers): count for width, layers, count in WIDTHS.values()}.get((dim, depth))
    if heads is None or first.shape[0] != 4 * dim or patch[0] != patch[1]:
        raise SourceError(
            f"{where} has width {dim}, {depth} layers, feed-forward width {first.shape[0]} and patches of "
            f"{patch[0]}x{patch[1]}, which is no published ViT, so its number of heads is unknown: "
            "name it with --arch, or pass its folder with config.json or the model itself as module:callable"
        )
    distilled = "head_dist.weight" in state or "distillation_classifier.weight" in state
    return Arch(dim, depth, heads, patch[0], 224, distilled)


def described(arch: Arch, state: Mapping[str, Tensor], layout: Layout, where: str) -> VitConfig:
    """The hyper-parameters of weights of a known architecture, under any layout's keys.

    Raises:
        SourceError: weights without a classification head.
    """
    if layout is Layout.TIMM:
        return config_of(arch, state, where)
    head = state.get("cls_classifier.weight", state.get("classifier.weight"))
    if head is None:
        raise SourceError(
            f"{where} lacks classifier.weight, so it is a backbone: pass a classifier's checkpoint"
        )
    distillation = Distillation.NONE
    if any(key.startswith("deit.") for key in state):
        two = "distillation_classifier.weight" in state
        distillation = Distillation.HEAD if two else Distillation.TOKEN
    return VitConfig(
        image_size=(arch.size, arch.size),
        patch_size=(arch.patch, arch.patch),
        dim=arch.dim,
        depth=arch.depth,
        heads=arch.heads,
        mlp_dim=4 * arch.dim,
        num_classes=head.shape[0],
        distillation=distillation,
        pooling=Pooling.CLS,
        qkv_bias=any(key.endswith(("query.bias", "q_proj.bias")) for key in state),
        layer_norm_eps=_EPS,
    )


def at_trained_size(
    config: VitConfig, state: Mapping[str, Tensor], asked: tuple[int, int] | None, where: str
) -> VitConfig:
    """The same, with the image size that the positions of the weights were trained for.

    Args:
        config: with the size that the architecture's name says.
        state: the weights.
        asked: pixels (height, width) to run at, which tells where the positions fit no square.
        where: the source's name for messages.

    Raises:
        SourceError: as many positions as no square image has.
    """
    positions = next((v for k, v in state.items() if k.endswith(("pos_embed", "position_embeddings"))), None)
    distilled = any(key.endswith(("dist_token", "distillation_token")) for key in state)
    if positions is None or positions.ndim != 3 or distilled is (config.distillation is Distillation.NONE):
        return config  # refused by its key or shape later
    counts = (positions.shape[1] - config.prefix_tokens, positions.shape[1])  # timm's no_embed_class
    for size in (config.image_size, asked):
        if size is not None and _patches(size, config) in counts:
            return dataclasses.replace(config, image_size=size)
    for count in counts:
        side = math.isqrt(max(count, 0))
        if side and side * side == count:
            size = (side * config.patch_size[0], side * config.patch_size[1])
            return dataclasses.replace(config, image_size=size)
    raise SourceError(
        f"{where} has {counts[0]} positions, which no square image gives: say with --image-size HEIGHTxWIDTH "
        "what it was trained at"
    )


def _patches(size: tuple[int, int], config: VitConfig) -> int:
    """How many patches an image of this size has; 0 where they do not divide it."""
    if size[0] % config.patch_size[0] or size[1] % config.patch_size[1]:
        return 0
    return (size[0] // config.patch_size[0]) * (size[1] // config.patch_size[1])


def _places(state: Mapping[str, Tensor], layout: Layout) -> tuple[str, str, str]:
    """Where the patch projection, the layers and the first feed-forward layer stand."""
    if layout is Layout.TIMM:
        return "patch_embed.proj.", "blocks.", "blocks.0.mlp.fc1.weight"
    stem = "deit" if any(key.startswith("deit.") for key in state) else "vit"
    embeddings = f"{stem}.embeddings.patch_embeddings.projection."
    if layout is Layout.HUGGINGFACE_5:
        return embeddings, f"{stem}.layers.", f"{stem}.layers.0.mlp.fc1.weight"
    layers = f"{stem}.encoder.layer."
    return embeddings, layers, f"{layers}0.intermediate.dense.weight"
