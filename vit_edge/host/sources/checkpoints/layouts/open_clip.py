"""OpenAI's keys of CLIP's image tower (clip/model.py), which are open_clip's (open_clip/transformer.py)."""

import re
from collections.abc import Mapping

from torch import Tensor

from vit_edge.errors import SourceError
from vit_edge.host.sources.checkpoints.form import Form
from vit_edge.host.sources.checkpoints.layout import Resampling
from vit_edge.host.sources.checkpoints.layouts.timm_forms import TIMM_VARIED

_TOWER, _TRUNK, _PROJECTION = "visual.", "visual.trunk.", "visual.head.proj."
# The text tower, and what compares both.
_BESIDE = r"(?:text\.|transformer\.|token_embedding\.|ln_final\.|text_decoder\.).*"
_LOOSE = r"positional_embedding|text_projection(?:\..*)?|logit_scale|logit_bias|attn_mask"
_OUTSIDE = {  # in front of a dot or the end, from the library's name to ours
    "conv1": "patch_embed.proj",
    "class_embedding": "cls_token",
    "positional_embedding": "pos_embed",
    "ln_pre": "norm_pre",
    "ln_post": "norm",
    "proj": "head.weight",
}
_INSIDE = {
    "ln_1": "norm1",
    "ln_2": "norm2",
    "attn.in_proj_weight": "attn.qkv.weight",
    "attn.in_proj_bias": "attn.qkv.bias",
    "attn.out_proj": "attn.proj",
    "ls_1": "ls1",
    "ls_2": "ls2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")


def _renamed(state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    tower = {key.removeprefix(_TOWER): value for key, value in state.items() if key.startswith(_TOWER)}
    if any(re.match(r"layer\d\.|bn1\.", key) for key in tower):
        raise SourceError(f"{where} is a CLIP whose image tower is a ResNet: pass one with a ViT")
    if any(key.startswith("attn_pool") for key in tower):
        raise SourceError(
            f"{where} is a CoCa, whose image tower pools by several queries: pass the model itself as "
            "module:callable"
        )
    own = {_name(key): value for key, value in tower.items()}
    for name, shape in (("cls_token", (1, 1, -1)), ("pos_embed", (1, *own["pos_embed"].shape[-2:]))):
        if name in own:
            own[name] = own[name].reshape(shape)
    if "head.weight" in own:
        own["head.weight"] = own["head.weight"].t().contiguous()
    beside = {key: value for key, value in state.items() if not key.startswith(_TOWER)}
    return own | beside  # what is known of the text tower is left over


def _name(key: str) -> str:
    block = _BLOCK.fullmatch(key)
    rest, names = (key, _OUTSIDE) if block is None else (block[2], _INSIDE)
    for theirs, ours in names.items():
        if rest == theirs or rest.startswith(f"{theirs}."):
            rest = ours + rest.removeprefix(theirs)
            break
    return rest if block is None else f"blocks.{block[1]}.{rest}"


def _of_timm(state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """A trunk of timm, with its own head as the projection, with one behind it, or with none."""
    trunk = {key.removeprefix(_TRUNK): value for key, value in state.items() if key.startswith(_TRUNK)}
    for key, value in state.items():
        if key.startswith(_PROJECTION):
            trunk[f"head.{key.removeprefix(_PROJECTION)}"] = value
    beside = {key: value for key, value in state.items() if not key.startswith((_TRUNK, _PROJECTION))}
    return TIMM_VARIED.renamed(trunk, where) | beside


OPEN_CLIP = Form(
    library="OpenAI's CLIP and open_clip",
    marks=(r"visual\.conv1\.weight",),
    renamed=_renamed,
    resampling=Resampling("open_clip", antialias=True),  # resize_pos_embed of open_clip/model.py
    left_over=rf"{_BESIDE}|{_LOOSE}",
)
OPEN_CLIP_TIMM = Form(
    library="open_clip, its image tower timm's",
    marks=(r"visual\.trunk\.patch_embed\.proj\.weight",),
    renamed=_of_timm,
    resampling=TIMM_VARIED.resampling,
    left_over=rf"{_BESIDE}|{_LOOSE}|{TIMM_VARIED.left_over}",
)
