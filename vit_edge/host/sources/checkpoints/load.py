"""Puts a checkpoint's tensors into `VisionTransformer`, refusing by name whatever does not fit."""

import dataclasses
import re
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from vit_edge.errors import SourceError
from vit_edge.host.sources.checkpoints.keys import listed
from vit_edge.host.sources.checkpoints.known import detect_layout
from vit_edge.host.sources.checkpoints.layout import KeyTable, Layout, Resampling
from vit_edge.host.sources.checkpoints.resample import resampled_note, resize_position_embedding
from vit_edge.host.vit import VisionTransformer, VitConfig


def build(
    state: Mapping[str, Tensor], config: VitConfig, where: str, image_size: tuple[int, int] | None = None
) -> VisionTransformer:
    """The model with the checkpoint's weights, in eval mode.

    Args:
        state: tensors under the keys of any layout.
        config: the architecture as the checkpoint was trained, its image size included.
        where: the source's name for messages.
        image_size: (height, width) to run at; another than the trained one resizes the positional embedding.

    Raises:
        SourceError: missing or unexpected keys or wrong shapes, by name, or an impossible image size.
    """
    layout = detect_layout(state, where)
    table = layout.table(config, where)
    refuse_names(state, layout, config, where)
    model = _empty(config)
    own = _convert(state, table, config, where)
    _refuse_shapes(own, table, model, where)
    model.load_state_dict(own, assign=True)
    model.eval()
    if image_size is None or image_size == config.image_size:
        return model
    return _at_size(model, image_size, layout.resampling, where)


def resize_notes(trained: VitConfig, used: VitConfig, resampling: Resampling) -> tuple[str, ...]:
    """A note where the positional embedding was resampled, for it is not the trained one any more."""
    return resampled_note(trained.grid, used.grid, resampling)


def _at_size(
    model: VisionTransformer, image_size: tuple[int, int], resampling: Resampling, where: str
) -> VisionTransformer:
    try:
        config = dataclasses.replace(model.config, image_size=image_size)
    except ValueError as error:
        raise SourceError(f"{where} cannot run at another size: {error}") from None
    state = model.state_dict()
    state["pos_embed"] = resize_position_embedding(
        state["pos_embed"], config.prefix_tokens, model.config.grid, config.grid, resampling
    )
    resized = _empty(config)
    resized.load_state_dict(state, assign=True)
    return resized.eval()


def _empty(config: VitConfig) -> VisionTransformer:
    # Without storage: initialising weights that are about to be replaced takes longer than reading the file.
    with torch.device("meta"):
        return VisionTransformer(config)


def _convert(
    state: Mapping[str, Tensor], table: KeyTable, config: VitConfig, where: str
) -> dict[str, Tensor]:
    own = {}
    for name, keys in table.items():
        parts = [state[key] for key in keys]
        if any(part.shape != parts[0].shape for part in parts):
            shapes = ", ".join(f"{key} {tuple(part.shape)}" for key, part in zip(keys, parts, strict=True))
            raise SourceError(f"{where}: query, key and value differ in shape ({shapes})")
        own[name] = torch.cat(parts).float()
    patches = config.grid[0] * config.grid[1]
    if own["pos_embed"].ndim == 3 and own["pos_embed"].shape[1] == patches:
        # timm's `no_embed_class`: prefix tokens have no position, which is the same as adding zero to them.
        own["pos_embed"] = F.pad(own["pos_embed"], (0, 0, config.prefix_tokens, 0))
    return own


def refuse_names(state: Mapping[str, Tensor], layout: Layout, config: VitConfig, where: str) -> None:
    """Refuse weights that are not those of a configuration, by their keys.

    Raises:
        SourceError: missing or unexpected keys.
    """
    expected = {key for keys in layout.table(config, where).values() for key in keys}
    missing = expected - set(state)
    unexpected = {key for key in set(state) - expected if not re.fullmatch(layout.left_over, key)}
    if missing or unexpected:
        found = [f"lacks {listed(missing)}"] * bool(missing)
        found += [f"has the unexpected {listed(unexpected)}"] * bool(unexpected)
        raise SourceError(
            f"{where} is not the described ViT ({config.depth} layers, width {config.dim}): "
            f"it {' and '.join(found)}"
        )


def _refuse_shapes(own: Mapping[str, Tensor], table: KeyTable, model: VisionTransformer, where: str) -> None:
    for name, expected in model.state_dict().items():
        if own[name].shape != expected.shape:
            keys = ", ".join(table[name])
            raise SourceError(
                f"{where}: {keys} has shape {tuple(own[name].shape)} where {tuple(expected.shape)} is "
                "expected: check the architecture and image size"
            )
