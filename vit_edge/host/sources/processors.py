"""What the keys of a Hugging Face image processor's config mean, for each of transformers' processors."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_edge.errors import SourceError
from vit_edge.fields import is_finite
from vit_edge.host.sources.archs import HALF, IMAGENET_MEAN, IMAGENET_STD
from vit_edge.host.sources.jsonfile import flag, number, read_object, sides
from vit_edge.host.sources.types import Triple
from vit_edge.spec import CropRule, Interpolation, ResizeMode

RESAMPLE = {  # Pillow's integers
    0: Interpolation.NEAREST,
    1: Interpolation.LANCZOS,
    2: Interpolation.BILINEAR,
    3: Interpolation.BICUBIC,
    4: Interpolation.BOX,
    5: Interpolation.HAMMING,
}
RULE_KEY = "vit_edge_crop"  # of a preprocessor_config.json that we wrote
_PLAIN, FAST = ("ImageProcessor", "ImageProcessorPil", "FeatureExtractor"), "ImageProcessorFast"
_WARPED = 384  # pixels from which a ConvNeXt processor neither enlarges nor crops


@dataclasses.dataclass(frozen=True)
class Family:
    """What an image processor does where its config is silent (its class attributes in transformers 5)."""

    size: dict[str, int]
    resample: Interpolation
    mean: Triple
    std: Triple
    square: bool = True  # whether a bare integer size means height and width, else the short side
    center_crop: bool = False
    crop_size: int | None = None
    crop_pct: float | None = None  # of a processor that derives resize and crop from one size


_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_SIDE, _SHORT = {"height": 224, "width": 224}, {"shortest_edge": 224}
_CUBIC = Interpolation.BICUBIC
_CLIP = Family(_SHORT, _CUBIC, _CLIP_MEAN, _CLIP_STD, square=False, center_crop=True, crop_size=224)
_FAMILIES = {
    "ViT": Family(_SIDE, Interpolation.BILINEAR, HALF, HALF),
    "DeiT": Family({"height": 256, "width": 256}, _CUBIC, HALF, HALF, center_crop=True, crop_size=224),
    "Beit": Family(_SIDE, _CUBIC, HALF, HALF, crop_size=224),
    "CLIP": _CLIP,
    "Bit": _CLIP,
    "Siglip": Family(_SIDE, _CUBIC, HALF, HALF, square=False),
    "DINOv3ViT": Family(_SIDE, Interpolation.BILINEAR, IMAGENET_MEAN, IMAGENET_STD),
    "ConvNext": Family({"shortest_edge": 384}, _CUBIC, HALF, HALF, square=False, crop_pct=224 / 256),
}
_OF_MODEL = {  # the processor of a model type whose config names none; ViT for others
    "deit": "DeiT",
    "beit": "Beit",
    "data2vec-vision": "Beit",
    "aimv2": "CLIP",
    "aimv2_vision_model": "CLIP",
    "clip": "CLIP",
    "metaclip_2": "CLIP",
    "dinov2": "Bit",
    "dinov2_with_registers": "Bit",
    "hiera": "Bit",
    "siglip": "Siglip",
    "clip_vision_model": "CLIP",
    "metaclip_2_vision_model": "CLIP",
    "siglip_vision_model": "Siglip",
    "dinov3_vit": "DINOv3ViT",
}

_UNKNOWN_TO_TRANSFORMERS = {"dinov2_with_registers"}


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Resize, then crop to (height, width)."""

    mode: ResizeMode
    resize: tuple[int, int]
    crop: tuple[int, int]


_LEAST_FACTOR = 1e-5  # below 1/65535, that of 16-bit pixels


def processor_name(raw: Mapping[str, Any], model_type: str) -> str:
    """The processor's class name; where the file names none, that of the model type."""
    stated = raw.get("image_processor_type") or raw.get("feature_extractor_type")
    return str(stated or f"{_OF_MODEL.get(model_type, 'ViT')}ImageProcessor")


def whose_choice(model_type: str) -> str:
    """Whose the processor is that a model type has where its file names none."""
    if model_type in _UNKNOWN_TO_TRANSFORMERS:
        return f"as that of DINOv2; transformers knows none of {model_type}"
    return "as transformers does"


def processor_of(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """The image processor's config where there is one, and where it stands; as transformers looks for it."""
    whole = folder / "processor_config.json"
    inner = read_object(whole).get("image_processor") if whole.exists() else None
    if isinstance(inner, dict):
        return inner, str(whole)
    file = folder / "preprocessor_config.json"
    return (read_object(file) if file.exists() else None), str(file)


def family_of(name: str, where: str) -> Family:
    """The defaults of the processor of this name.

    Raises:
        SourceError: an unknown processor; the message holds the known ones.
    """
    for stem, family in _FAMILIES.items():
        if name in {stem + suffix for suffix in (*_PLAIN, FAST)}:
            return family
    raise SourceError(
        f"{where}: the image processor {name!r} is not known: use one of {', '.join(_FAMILIES)} "
        "(ViTImageProcessor ...) or pass mean, std, interpolation and crop_pct with the file removed"
    )


def switch(raw: Mapping[str, Any], key: str, where: str, default: bool) -> bool:
    """A flag as transformers takes it: absent is the default, null is off; SourceError names the key."""
    return flag(raw, key, where, default and key not in raw)


def stated_rule(raw: Mapping[str, Any]) -> object:
    """The crop rule that a file of ours states, None in any other."""
    return raw.get(RULE_KEY)


def crop_rule(raw: Mapping[str, Any], name: str, where: str) -> CropRule:
    """Whose rounding holds for the centre crop: as stated, else by the processor's name."""
    stated = stated_rule(raw)
    if stated is None:
        return CropRule.TRANSFORMERS_FAST if name.endswith(FAST) else CropRule.TRANSFORMERS
    try:
        return CropRule(stated)
    except ValueError:
        known = ", ".join(rule.value for rule in CropRule)
        raise SourceError(f"{where}: {RULE_KEY} must be one of {known}, got {stated!r}") from None


def geometry_of(raw: Mapping[str, Any], family: Family, where: str) -> Geometry:
    """Resize and crop; SourceError where they do not give one fixed size."""
    mode, resize = _resize(raw, family, where)
    crops = switch(raw, "do_center_crop", where, family.center_crop)
    if family.crop_pct is not None and mode is ResizeMode.SHORT_SIDE:
        if crops:
            raise SourceError(f"{where}: do_center_crop besides a crop_pct is not supported: leave it out")
        return _from_crop_pct(raw, family.crop_pct, resize[0], where)
    if family.crop_pct is not None and mode is ResizeMode.EXACT:
        raise SourceError(
            f"{where}: size must be a shortest_edge, from which this processor derives the rest"
        )
    if crops:
        return Geometry(mode, resize, _crop_size(raw, family, where))
    if mode is ResizeMode.SHORT_SIDE:
        raise SourceError(
            f"{where}: shortest_edge without a centre crop gives no fixed size: set do_center_crop"
        )
    return Geometry(mode, resize, resize)


def _from_crop_pct(raw: Mapping[str, Any], default: float, side: int, where: str) -> Geometry:
    """As ConvNeXt's processor reads one size: below 384 pixels it is the crop, from there on the resize."""
    if side >= _WARPED:
        return Geometry(ResizeMode.EXACT, (side, side), (side, side))
    share = number(raw, "crop_pct", where, default)
    if not 0 < share <= 1:
        raise SourceError(f"{where}: crop_pct must be above 0 and at most 1, got {share}")
    enlarged = int(side / share)
    return Geometry(ResizeMode.SHORT_SIDE, (enlarged, enlarged), (side, side))


def _crop_size(raw: Mapping[str, Any], family: Family, where: str) -> tuple[int, int]:
    stated = raw.get("crop_size", family.crop_size)
    if stated is None:
        raise SourceError(f"{where}: do_center_crop without a crop_size: state its height and width")
    return sides(stated, "crop_size", where)


def _resize(raw: Mapping[str, Any], family: Family, where: str) -> tuple[ResizeMode, tuple[int, int]]:
    size = raw.get("size", family.size)
    if not switch(raw, "do_resize", where, True):
        if switch(raw, "do_center_crop", where, family.center_crop):
            return ResizeMode.NONE, _crop_size(raw, family, where)
        return ResizeMode.NONE, sides(size, "size", where)
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
        size, square = size["shortest_edge"], False
    else:
        square = switch(raw, "default_to_square", where, family.square) or not isinstance(size, int)
    return ResizeMode.EXACT if square else ResizeMode.SHORT_SIDE, sides(size, "size", where)


def interpolation_of(raw: Mapping[str, Any], family: Family, where: str) -> Interpolation:
    """The resize's filter; SourceError where it is none of Pillow's."""
    if "resample" not in raw:
        return family.resample
    value = raw["resample"]
    if type(value) is not int or value not in RESAMPLE:
        raise SourceError(f"{where}: resample must be one of Pillow's integers 0 to 5, got {value!r}")
    return RESAMPLE[value]


def statistics_of(raw: Mapping[str, Any], family: Family, where: str) -> tuple[Triple, Triple]:
    """Mean and std of values in [0, 1], RGB, rescale_factor included; SourceError where malformed."""
    # (pixel * factor - mean) / std, rewritten for pixel / 255; the usual factor leaves both untouched.
    scales = switch(raw, "do_rescale", where, True)
    factor = number(raw, "rescale_factor", where, 1 / 255) if scales else 1.0
    if not _LEAST_FACTOR <= factor <= 1:
        raise SourceError(f"{where}: rescale_factor must be from {_LEAST_FACTOR} to 1, got {factor}")
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    if switch(raw, "do_normalize", where, True):
        mean = _triple(raw.get("image_mean", family.mean), "image_mean", where)
        std = _triple(raw.get("image_std", family.std), "image_std", where)
    if math.isclose(factor, 1 / 255, rel_tol=1e-6):
        return mean, std
    scale = 1 / (255 * factor)
    return _times(mean, scale), _times(std, scale)


def _times(values: Triple, scale: float) -> Triple:
    return values[0] * scale, values[1] * scale, values[2] * scale


def _triple(value: object, key: str, where: str) -> Triple:
    if type(value) in (int, float):  # one number for all channels
        value = [value] * 3
    if isinstance(value, list | tuple) and len(value) == 3:
        red, green, blue = value
        if all(map(is_finite, value)):
            return float(red), float(green), float(blue)
    raise SourceError(f"{where}: {key} must be three numbers, got {value!r}")
