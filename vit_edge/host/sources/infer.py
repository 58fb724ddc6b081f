"""What a bare state dict says about its own architecture, by its keys and shapes."""

import dataclasses
import itertools
import math
from collections.abc import Mapping

from torch import Tensor

from vit_edge.errors import SourceError
from vit_edge.host.sources.archs import WIDTHS, Arch
from vit_edge.host.sources.checkpoints import Layout, refuse_names
from vit_edge.host.sources.checkpoints.layout import FEED_FORWARD, HEAD, PATCHES, QKV, SECOND_HEAD
from vit_edge.host.vit import Distillation, Pooling, VitConfig


def infer_arch(state: Mapping[str, Tensor], layout: Layout, where: str) -> Arch:
    """The published architecture that has these shapes.

    Shapes do not show the number of attention heads, so the width, depth and feed-forward width must be those
    of a published model, whose heads are known.

    Raises:
        SourceError: other shapes.
    """
    distillation = Distillation.NONE if layout.distillation is None else layout.distillation(state)
    projection = state.get(layout.key(PATCHES, distillation))
    first = state.get(layout.key(FEED_FORWARD, distillation))
    if projection is None or projection.ndim != 4 or first is None:
        raise SourceError(f"{where} does not show its architecture: name it with --arch")
    dim, patch = projection.shape[0], (projection.shape[2], projection.shape[3])
    depth = next(n for n in itertools.count() if layout.key(FEED_FORWARD, distillation, n) not in state)
    heads = {(width, layers): count for width, layers, count in WIDTHS.values()}.get((dim, depth))
    if heads is None or first.shape[0] != 4 * dim or patch[0] != patch[1]:
        raise SourceError(
            f"{where} has width {dim}, {depth} layers, feed-forward width {first.shape[0]} and patches of "
            f"{patch[0]}x{patch[1]}, which is no published ViT, so its number of heads is unknown: "
            "name it with --arch, or pass its folder with config.json or the model itself as module:callable"
        )
    distilled = layout.key(SECOND_HEAD, distillation) in state
    return Arch(dim, depth, heads, patch[0], 224, distilled)


def described(arch: Arch, state: Mapping[str, Tensor], layout: Layout, where: str) -> VitConfig:
    """The hyper-parameters of weights of a known architecture, under any layout's keys.

    Raises:
        SourceError: weights without a classification head.
    """
    if layout.distillation is None:
        distillation = Distillation.HEAD if arch.distilled else Distillation.NONE
    else:
        distillation = layout.distillation(state)
    key = layout.key(HEAD, distillation)
    if key not in state:
        raise SourceError(f"{where} lacks {key}, so it is a backbone: pass a classifier's checkpoint")
    has_class_token = not layout.averages or layout.key("cls_token", distillation) in state
    norm_after_pool = layout.averages and layout.key("fc_norm.{kind}", distillation) in state
    registers = state.get(layout.key("reg_token", distillation))
    return VitConfig(
        image_size=(arch.size, arch.size),
        patch_size=(arch.patch, arch.patch),
        dim=arch.dim,
        depth=arch.depth,
        heads=arch.heads,
        mlp_dim=4 * arch.dim,
        num_classes=state[key].shape[0],
        cls_token=has_class_token,
        distillation=distillation,
        register_tokens=0 if registers is None else registers.shape[1],
        pooling=Pooling.CLS if has_class_token and not norm_after_pool else Pooling.MEAN,
        norm_after_pool=norm_after_pool,
        qkv_bias=layout.key(QKV, distillation, kind="bias") in state,
        layer_norm_eps=layout.layer_norm_eps,
    )


def at_trained_size(
    config: VitConfig, state: Mapping[str, Tensor], layout: Layout, asked: tuple[int, int] | None, where: str
) -> VitConfig:
    """The same, with the image size that the positions of the weights were trained for.

    Args:
        config: with the size that the architecture's name says.
        state: the weights.
        layout: that of their keys.
        asked: pixels (height, width) to run at, which tells where the positions fit no square.
        where: the source's name for messages.

    Raises:
        SourceError: other keys than the configuration's, or as many positions as no square image has.
    """
    refuse_names(state, layout, config, where)
    positions = state[layout.table(config, where)["pos_embed"][0]]
    if positions.ndim != 3:
        return config  # refused by its shape later
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
