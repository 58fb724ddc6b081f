"""timm's keys of the vision transformers that are no plain ViT (vision_transformer.py, eva.py)."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from vit_edge.errors import SourceError
from vit_edge.host.sources.checkpoints.form import Form
from vit_edge.host.sources.checkpoints.layout import LEFT_OVER, Resampling

_LAYER = re.compile(r"(blocks\.\d+)\.(.+)")
_NAMES = {"gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")
# What a plain ViT does not have.
_SPECIAL = (
    r"norm_pre\.weight|attn_pool\.latent|blocks\.0\.(?:ls1\.gamma|gamma_1|attn\.(?:q_bias|q_proj\.weight|"
    r"q_norm\.weight|norm\.weight)|mlp\.(?:fc1_g\.weight|norm\.weight))"
)
_TABLES = r"rope\..*|.*attn\.k_bias"  # that follow from the sizes, or are zero


def _renamed(state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    own: dict[str, Tensor] = {}
    for key, value in state.items():
        found = _LAYER.fullmatch(key)
        own[f"{found[1]}.{_NAMES.get(found[2], found[2])}" if found else key] = value
    for stem in dict.fromkeys(found[1] for found in map(_LAYER.fullmatch, own) if found):
        _join(own, f"{stem}.attn", where)
        _part(own, f"{stem}.mlp")
    return own


def _join(own: dict[str, Tensor], stem: str, where: str) -> None:
    """One weight and one bias of queries, keys and values; keys may have no bias of their own."""
    weights = [own.pop(f"{stem}.{name}.weight", None) for name in _PROJECTIONS]
    if all(weight is not None for weight in weights):
        if any(weight.shape != weights[0].shape for weight in weights):  # type: ignore[union-attr]
            raise SourceError(
                f"{where}: {stem} has fewer keys than queries (grouped-query attention), which is not "
                "supported: pass the model itself as module:callable"
            )
        own[f"{stem}.qkv.weight"] = torch.cat([weight for weight in weights if weight is not None])
    query = own.pop(f"{stem}.q_bias", own.pop(f"{stem}.q_proj.bias", None))
    value = own.pop(f"{stem}.v_bias", own.pop(f"{stem}.v_proj.bias", None))
    key = own.pop(f"{stem}.k_proj.bias", None)
    if query is not None and value is not None:
        own[f"{stem}.qkv.bias"] = torch.cat([query, torch.zeros_like(query) if key is None else key, value])


def _part(own: dict[str, Tensor], stem: str) -> None:
    """A packed gate and its layer apart, where the second layer shows that the first holds both."""
    first, second = own.get(f"{stem}.fc1.weight"), own.get(f"{stem}.fc2.weight")
    if first is None or second is None or second.ndim != 2 or first.shape[0] != 2 * second.shape[1]:
        return
    for kind in ("weight", "bias"):
        packed = own.pop(f"{stem}.fc1.{kind}", None)
        if packed is not None:
            own[f"{stem}.fc1_g.{kind}"], own[f"{stem}.fc1_x.{kind}"] = packed.chunk(2)


TIMM_VARIED = Form(
    library="timm",
    marks=(r"patch_embed\.proj\.weight", r"blocks\.0\.norm1\.weight", _SPECIAL),
    renamed=_renamed,
    resampling=Resampling("timm", antialias=True),  # timm.layers.pos_embed.resample_abs_pos_embed
    left_over=rf"{LEFT_OVER}|{_TABLES}",
)
