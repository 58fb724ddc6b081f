"""Weights of a Swin: from a library's keys to the names of `Swin`, and its record, read off the shapes."""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from vit_edge.errors import SourceError
from vit_edge.host.sources.checkpoints.keys import listed
from vit_edge.host.varied.swin import Swin, SwinConfig
from vit_edge.host.varied.windows import continuous_bias, factor_of, learned_bias, shift_mask

# Tables that follow from the sizes, and the mask of shifted windows.
_LEFT_OVER = r".*(?:relative_position_index|relative_coords_table|attn_mask)"
_TABLE = "attn.relative_position_bias_table"


@dataclasses.dataclass(frozen=True)
class SwinForm:
    """A library's keys of Swin."""

    library: str
    """For messages."""
    marks: tuple[str, ...]
    """As of a `Layout`: the first is the key of the patch embedding's weight; each is fitted by some key."""
    renamed: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    """From a state dict to timm's names; what is unknown keeps its."""
    shrinks: bool
    """Whether a window larger than a stage's grid becomes as large as that; else the grid is padded."""

    def fits(self, keys: Iterable[str]) -> bool:
        """Whether a set of weights has these keys."""
        present = tuple(keys)
        return all(any(re.fullmatch(mark, key) for key in present) for mark in self.marks)


@dataclasses.dataclass(frozen=True)
class Windows:
    """What a Swin's shapes do not show."""

    image_size: tuple[int, int]  # pixels (height, width)
    side: int | None = None  # of Swin V2, whose weights do not show it
    trained: tuple[int, ...] = ()  # of Swin V2, for each stage: the window of its coordinates, 0 for `side`


def build_swin(form: SwinForm, state: Mapping[str, Tensor], told: Windows, where: str) -> Swin:
    """The model with these weights, in eval mode.

    Args:
        form: of the keys.
        state: float32.
        told: what shapes do not show.
        where: the source's name for messages.

    Raises:
        SourceError: missing or unexpected keys, shapes that do not fit, or a size that its windows do not
            divide.
    """
    own = form.renamed(state)
    config = _config(own, told, where, shrinks=form.shrinks)
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            _fold(own, config, told, stage, block, where)
    with torch.device("meta"):
        model = Swin(config)
    _refuse(own, model, form, where)
    model.load_state_dict({key: own[key] for key in model.state_dict()}, assign=True)
    return model.eval()


def _config(own: Mapping[str, Tensor], told: Windows, where: str, *, shrinks: bool) -> SwinConfig:
    patches, head = own.get("patch_embed.proj.weight"), own.get("head.fc.weight")
    if patches is None or patches.ndim != 4 or head is None:
        raise SourceError(f"{where} lacks a patch embedding or a classifier: pass a classifier's checkpoint")
    stages = next(n for n in range(2**10) if f"layers.{n}.blocks.0.attn.qkv.weight" not in own)
    first = [f"layers.{stage}.blocks.0" for stage in range(stages)]
    depths = [_depth(own, stage) for stage in range(stages)]
    second = "layers.0.blocks.0.attn.logit_scale" in own
    try:
        heads = [
            own[f"{each}.attn.logit_scale"].shape[0] if second else own[f"{each}.{_TABLE}"].shape[1]
            for each in first
        ]
        sides = [told.side or 0] * stages
        if not second:
            sides = [(math.isqrt(own[f"{each}.{_TABLE}"].shape[0]) + 1) // 2 for each in first]
        elif shrinks:
            sides = [min(side, *_grid(told, patches, stage)) for stage, side in enumerate(sides)]
        return SwinConfig(
            image_size=told.image_size,
            patch=patches.shape[2],
            dim=patches.shape[0],
            depths=tuple(depths),
            heads=tuple(heads),
            mlp_dims=tuple(own[f"{each}.mlp.fc1.weight"].shape[0] for each in first),
            sides=tuple(sides),
            outputs=head.shape[0],
            second=second,
            qkv_bias=f"{first[0]}.attn.qkv.bias" in own or f"{first[0]}.attn.q_bias" in own,
            patch_norm="patch_embed.norm.weight" in own,
        )
    except KeyError as error:
        raise SourceError(f"{where} lacks {error.args[0]}, which a Swin has") from None
    except (ValueError, IndexError) as error:
        raise SourceError(f"{where}: {error}") from None


def _grid(told: Windows, patches: Tensor, stage: int) -> tuple[int, int]:
    height, width = (side // (patches.shape[2] * 2**stage) for side in told.image_size)
    return height, width


def _depth(own: Mapping[str, Tensor], stage: int) -> int:
    return next(n for n in range(2**10) if f"layers.{stage}.blocks.{n}.attn.qkv.weight" not in own)


def _fold(
    own: dict[str, Tensor], config: SwinConfig, told: Windows, stage: int, block: int, where: str
) -> None:
    """Put a layer's constants in place of what they are made of."""
    stem, side = f"layers.{stage}.blocks.{block}.attn", config.sides[stage]
    try:
        if config.second:
            mlp = [own.pop(f"{stem}.cpb_mlp.{key}") for key in ("0.weight", "0.bias", "2.weight")]
            trained = told.trained[stage] if stage < len(told.trained) else 0
            bias = continuous_bias(mlp[0], mlp[1], mlp[2], side, trained or side)
            own[f"{stem}.factor"] = factor_of(own.pop(f"{stem}.logit_scale"))
            _without_key_bias(own, stem)
        else:
            bias = learned_bias(own.pop(f"layers.{stage}.blocks.{block}.{_TABLE}"), side)
    except KeyError as error:
        raise SourceError(f"{where} lacks {error.args[0]}, which a Swin has") from None
    except (IndexError, RuntimeError):
        raise SourceError(f"{where}: the relative positions of {stem} have another shape") from None
    shift = config.shift(stage, block)
    mask = shift_mask(config.grid(stage), side, shift) if any(shift) else 0.0
    own[f"{stem}.bias"] = bias[None] + mask


def _without_key_bias(own: dict[str, Tensor], stem: str) -> None:
    """Keys of a cosine attention have no bias; where all three have one, the keys' is left out of account."""
    whole, query, value = (own.pop(f"{stem}.{key}", None) for key in ("qkv.bias", "q_bias", "v_bias"))
    if query is None and value is None and whole is not None:
        query, _, value = whole.chunk(3)
    if query is not None and value is not None:
        own[f"{stem}.qkv.bias"] = torch.cat([query, torch.zeros_like(query), value])


def _refuse(own: Mapping[str, Tensor], model: Swin, form: SwinForm, where: str) -> None:
    """Whatever does not fit, by name."""
    expected = model.state_dict()
    missing = set(expected) - set(own)
    unexpected = {key for key in set(own) - set(expected) if not re.fullmatch(_LEFT_OVER, key)}
    said = [f"lacks {listed(missing)}"] * bool(missing)
    said += [f"has the unexpected {listed(unexpected)}"] * bool(unexpected)
    if said:
        raise SourceError(
            f"{where} has keys of {form.library}'s Swin, but not all and only those: it {' and '.join(said)}"
        )
    for key, value in expected.items():
        if own[key].shape != value.shape:
            raise SourceError(
                f"{where}: {key} has shape {tuple(own[key].shape)} where {tuple(value.shape)} is expected: "
                "check the architecture and the image size"
            )
