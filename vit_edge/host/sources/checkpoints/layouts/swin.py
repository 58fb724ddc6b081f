"""The keys of Swin and Swin V2: timm's, with Microsoft's own that came before them, and torchvision's."""

import re
from collections.abc import Mapping

from torch import Tensor

from vit_edge.host.sources.checkpoints.swin import SwinForm

_OLD = "layers.0.downsample.reduction.weight"  # Microsoft's: merging stands at the end of a stage
_STAGE = re.compile(r"features\.(\d+)\.(.+)")
_BLOCK = re.compile(r"(\d+)\.(.+)")


def _of_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Timm's names, which a file of Microsoft's has but for the merging and the head."""
    if _OLD not in state:
        return dict(state)
    own = {}
    for key, value in state.items():
        moved = re.sub(r"^layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) + 1}.downsample", key)
        own[re.sub(r"^head\.", "head.fc.", moved)] = value
    return own


def _of_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {_timms(key): value for key, value in state.items()}


def _timms(key: str) -> str:
    """Timm's name of torchvision's `features.3.1.attn.qkv.weight` (block 1 of stage 1)."""
    found = _STAGE.fullmatch(key)
    if found is None:
        return re.sub(r"^head\.", "head.fc.", key)
    place, rest = int(found[1]), found[2]
    if place == 0:
        return "patch_embed." + re.sub(r"^2\.", "norm.", re.sub(r"^0\.", "proj.", rest))
    if place % 2 == 0:
        return f"layers.{place // 2}.downsample.{rest}"
    block = _BLOCK.fullmatch(rest)
    if block is None:
        return key
    inner = re.sub(r"^mlp\.0\.", "mlp.fc1.", re.sub(r"^mlp\.3\.", "mlp.fc2.", block[2]))
    return f"layers.{place // 2}.blocks.{block[1]}.{inner}"


TORCHVISION_SWIN = SwinForm(
    library="torchvision",
    marks=(r"features\.0\.0\.weight", r"features\.1\.0\.attn\.qkv\.weight"),
    renamed=_of_torchvision,
    shrinks=False,
)
TIMM_SWIN = SwinForm(
    library="timm",
    marks=(r"patch_embed\.proj\.weight", r"layers\.0\.blocks\.0\.attn\.qkv\.weight"),
    renamed=_of_timm,
    shrinks=True,
)
