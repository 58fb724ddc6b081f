"""What open_clip's configs and names, and OpenAI's, say of a CLIP's image tower that its weights do not.

Source: `CLIPVisionCfg` and `PreprocessCfg` of open_clip 3.3 (model.py, transform.py) and its model_configs.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from vit_edge.errors import SourceError, UsageError
from vit_edge.fields import shown
from vit_edge.host.sources.checkpoints.form import Told
from vit_edge.host.sources.jsonfile import flag, integer, sides, text
from vit_edge.host.sources.timm_names import TIMM_POOLS, TimmName, timm_name, told_of
from vit_edge.host.sources.types import Triple
from vit_edge.host.varied.config import Nonlinearity, Pool
from vit_edge.spec import CropRule, Interpolation, PreprocessSpec, ResizeMode

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_EPS = 1e-5  # torch's, which open_clip and OpenAI leave
_HEAD_WIDTH = 64
# Of vision_cfg: what changes the computation to one that is not known here, where it is set.
_OTHERS = (
    "attentional_pool",
    "block_type",
    "qk_norm",
    "scaled_cosine_attn",
    "scale_heads",
    "scale_attn_inner",
    "scale_attn",
    "scale_fc",
)
_POOLS = {"tok": Pool.CLS, "avg": Pool.MEAN}
# By the letter of a name: width and heads.
_WIDTHS = {
    "S": (384, 6),
    "M": (512, 8),
    "B": (768, 12),
    "L": (1024, 16),
    "H": (1280, 16),
    "g": (1408, 16),
    "bigG": (1664, 16),
    "B-plus": (896, 14),
}
_NAME = re.compile(r"ViT-(?P<width>S|M|B|L|H|g|bigG)[-/](?P<patch>\d\d)(?P<plus>-plus)?(?P<rest>[-@]?.*)")
_REST = re.compile(r"(?:-alt)?(?:-worldwide)?(?:-(\d{3}))?(?P<quick>-quickgelu)?")
_PUBLISHED = re.compile(r"(?:@\d+px)?")  # behind OpenAI's own names


@dataclasses.dataclass(frozen=True)
class Named:
    """A published image tower."""

    width: int
    heads: int
    patch: int
    quick: bool
    open_clips_name: str  # which open_clip knows it by


def is_open_clip(name: str) -> bool:
    """Whether an architecture's name looks like open_clip's (`ViT-B-32`) or OpenAI's (`ViT-B/32`)."""
    return name.startswith("ViT-")


def tower_named(name: str) -> Named:
    """What a name says: `ViT-B-32-quickgelu` of open_clip, or `ViT-B/32` of OpenAI, whose activation is that.

    Raises:
        UsageError: no name of a tower that is read.
    """
    found = _NAME.fullmatch(name)
    openais = found is not None and "/" in name
    rest = None if found is None else (_PUBLISHED if openais else _REST).fullmatch(found["rest"])
    if found is None or rest is None:
        raise UsageError(
            f"unknown architecture {name!r}: CLIP's are named as by OpenAI (ViT-B/32, ViT-L/14@336px) or "
            "open_clip (ViT-B-32, ViT-L-14-quickgelu); for others pass the folder with open_clip_config.json"
        )
    quick = openais or rest["quick"] is not None
    width, heads = _WIDTHS[found["width"] + (found["plus"] or "")]
    known = name.replace("/", "-").replace("@336px", "-336") + ("-quickgelu" if openais else "")
    return Named(width, heads, int(found["patch"]), quick, known)


def told_by_name(named: Named) -> Told:
    """Of a published tower."""
    activation = Nonlinearity.QUICK_GELU if named.quick else Nonlinearity.GELU
    return Told(named.heads, activation, layer_norm_eps=_EPS, unit=True)


def told_by_config(raw: Mapping[str, Any], where: str) -> Told:
    """Of the `model_cfg` in an open_clip_config.json.

    Raises:
        SourceError: a tower that is not known here; the message names what it has.
    """
    vision = raw.get("vision_cfg")
    if not isinstance(vision, Mapping):
        raise SourceError(f"{where}: model_cfg.vision_cfg must be an object: fetch it again")
    if isinstance(vision.get("layers"), list):
        raise SourceError(f"{where} is of a CLIP whose image tower is a ResNet: pass one with a ViT")
    others = [name for name in _OTHERS if vision.get(name)]
    if others:
        raise SourceError(
            f"{where}: {', '.join(others)} of vision_cfg is not supported: pass the model itself as "
            "module:callable"
        )
    pool = text(vision, "pool_type", where, "tok")
    if pool not in _POOLS:
        raise SourceError(f"{where}: pool_type {shown(pool)} is not one of {', '.join(_POOLS)}")
    width, of_head = integer(vision, "width", where, 768), integer(vision, "head_width", where, _HEAD_WIDTH)
    return Told(
        heads=max(1, width // of_head),
        nonlinearity=_activation(raw, vision, where),
        pool=_POOLS[pool],
        layer_norm_eps=_epsilon(vision, where),
        unit=True,
        norm_after_pool=flag(vision, "final_ln_after_pool", where, False),
        image_size=sides(vision.get("image_size", 224), "image_size", where),
    )


def timm_trunk(raw: Mapping[str, Any], where: str) -> TimmName | None:
    """Timm's name of the image tower in a `model_cfg`; None where it is none of timm's.

    Raises:
        SourceError: one that is not read by its keys, or whose vector is made in another way.
    """
    vision = raw.get("vision_cfg")
    name = vision.get("timm_model_name") if isinstance(vision, Mapping) else None
    if name is None or not isinstance(vision, Mapping):
        return None
    known = timm_name(str(name))
    if known is None or known.window is not None:
        raise SourceError(
            f"{where}: the image tower is {shown(name)} of timm, which is not read from here: pass the model "
            "itself as module:callable"
        )
    if vision.get("timm_proj") == "mlp" or vision.get("timm_pool", "avg") not in TIMM_POOLS:
        raise SourceError(
            f"{where}: timm_pool {shown(vision.get('timm_pool'))} with timm_proj "
            f"{shown(vision.get('timm_proj'))} is not supported: pass the model itself as module:callable"
        )
    if sides(vision.get("image_size", 224), "image_size", where) != known.size:
        raise SourceError(
            f"{where}: image_size is not that of {known.name}, {known.size[0]}x{known.size[1]}: check it"
        )
    return known


def told_of_trunk(raw: Mapping[str, Any], known: TimmName) -> Told:
    """Of an image tower of timm's, as `timm_trunk` found it."""
    pool = TIMM_POOLS[raw["vision_cfg"].get("timm_pool", "avg")]
    return dataclasses.replace(told_of(known), unit=True, pool=pool)


def prepared_by_config(raw: Mapping[str, Any], size: tuple[int, int], where: str) -> PreprocessSpec:
    """Of the `preprocess_cfg` in an open_clip_config.json; what it leaves out is as OpenAI has it.

    Raises:
        SourceError: a recipe that is not known here.
    """
    mode = text(raw, "resize_mode", where, "shortest")
    squashes = mode == "squash"
    if mode not in ("shortest", "squash") or (size[0] != size[1] and not squashes):
        raise SourceError(
            f"{where}: resize_mode {shown(mode)} to {size[0]}x{size[1]} has no recipe here: evaluate the "
            "model with squash or shortest, and if it is as good, say so with --resize-mode"
        )
    filters = {"bicubic": Interpolation.BICUBIC, "random": Interpolation.BICUBIC}
    filters["bilinear"] = Interpolation.BILINEAR
    named = text(raw, "interpolation", where, "bicubic")
    if named not in filters:
        raise SourceError(f"{where}: interpolation {shown(named)} is not one of {', '.join(filters)}")
    return PreprocessSpec(
        *size,
        ResizeMode.EXACT if squashes else ResizeMode.SHORT_SIDE,
        size,
        filters[named],
        _triple(raw, "mean", CLIP_MEAN, where),
        _triple(raw, "std", CLIP_STD, where),
        CropRule.TORCHVISION,
    )


def _activation(raw: Mapping[str, Any], vision: Mapping[str, Any], where: str) -> Nonlinearity:
    options = vision.get("act_kwargs") or {}
    quick = flag(raw, "quick_gelu", where, False)
    if not options:
        return Nonlinearity.QUICK_GELU if quick else Nonlinearity.GELU
    if options == {"approximate": "tanh"} and not quick:
        return Nonlinearity.GELU_TANH
    raise SourceError(f"{where}: act_kwargs {shown(options)} is not supported")


def _epsilon(vision: Mapping[str, Any], where: str) -> float:
    options = vision.get("norm_kwargs") or {}
    value = options.get("eps", _EPS) if isinstance(options, Mapping) and set(options) <= {"eps"} else None
    if not isinstance(value, float) or not 0 < value < 1:
        raise SourceError(f"{where}: norm_kwargs {shown(options)} is not supported")
    return value


def _triple(raw: Mapping[str, Any], key: str, default: Triple, where: str) -> Triple:
    value = raw.get(key)
    if value is None:
        return default
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = [value] * 3
    if isinstance(value, list) and len(value) == 3 and all(type(each) in (int, float) for each in value):
        red, green, blue = value
        if key != "std" or min(value) > 0:
            return float(red), float(green), float(blue)
    raise SourceError(f"{where}: {key} must be three numbers, got {shown(value)}")
