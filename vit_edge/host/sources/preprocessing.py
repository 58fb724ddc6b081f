"""Preprocessing from a Hugging Face image processor's config or from options, and back into such a config."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from vit_edge.errors import SourceError
from vit_edge.host.sources.archs import HALF
from vit_edge.host.sources.jsonfile import flag, number, sides
from vit_edge.host.sources.types import SourceOptions, Triple
from vit_edge.spec import Interpolation, PreprocessSpec, ResizeMode

_RESAMPLE = {  # Pillow's integers
    0: Interpolation.NEAREST,
    1: Interpolation.LANCZOS,
    2: Interpolation.BILINEAR,
    3: Interpolation.BICUBIC,
    4: Interpolation.BOX,
    5: Interpolation.HAMMING,
}
_SUFFIXES = ("ImageProcessor", "ImageProcessorFast", "ImageProcessorPil", "FeatureExtractor")


@dataclasses.dataclass(frozen=True)
class _Family:
    """What an image processor does where its config is silent (its class attributes in transformers)."""

    center_crop: bool
    square: bool  # whether a bare integer size means height and width, else the short side
    size: dict[str, int]
    resample: Interpolation
    mean: Triple
    std: Triple


_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_VIT = _Family(False, True, {"height": 224, "width": 224}, Interpolation.BILINEAR, HALF, HALF)
_DEIT = _Family(True, True, {"height": 256, "width": 256}, Interpolation.BICUBIC, HALF, HALF)
_CLIP = _Family(True, False, {"shortest_edge": 224}, Interpolation.BICUBIC, _CLIP_MEAN, _CLIP_STD)
_FAMILIES = {"ViT": _VIT, "DeiT": _DEIT, "CLIP": _CLIP, "Bit": _CLIP}


def from_processor(raw: Mapping[str, Any], where: str) -> PreprocessSpec:
    """The numeric recipe of a `preprocessor_config.json` of the ViT, DeiT, CLIP or BiT image processor.

    Args:
        raw: the parsed file.
        where: its name for messages.

    Raises:
        SourceError: an unknown processor, a malformed value, or a recipe whose output has no fixed size.
    """
    family = _family(raw, where)
    crops = flag(raw, "do_center_crop", where, family.center_crop)
    mode, resize = _resize(raw, family, where)
    if flag(raw, "do_pad", where, False):
        raise SourceError(f"{where}: do_pad is not supported: train with a resize and a centre crop instead")
    if crops:
        height, width = sides(raw.get("crop_size", 224), "crop_size", where)
    elif mode is ResizeMode.SHORT_SIDE:
        raise SourceError(
            f"{where}: shortest_edge without a centre crop gives no fixed size: set do_center_crop"
        )
    else:
        height, width = resize
    interpolation, (mean, std) = _interpolation(raw, family, where), _statistics(raw, family, where)
    try:
        return PreprocessSpec(height, width, mode, resize, interpolation, mean, std)
    except ValueError as error:
        raise SourceError(f"{where}: {error}") from None


def with_options(
    stated: PreprocessSpec | None, options: SourceOptions, image_size: tuple[int, int], where: str
) -> PreprocessSpec:
    """What the source states, overridden by the options, for a model that sees `image_size` (height, width).

    With `options.image_size` the source's resize is scaled in proportion, unless its geometry is replaced.

    Raises:
        SourceError: the source states nothing and the options do not complete it, or the sizes do not fit.
    """
    geometry = _geometry_of(options, image_size)
    if stated is None:
        stated = _from_options_alone(options, geometry, where)
    elif geometry is not None:
        stated = dataclasses.replace(stated, **geometry)
    elif (stated.height, stated.width) != image_size and options.image_size is not None:
        stated = _scaled(stated, image_size)
    if (stated.height, stated.width) != image_size:
        raise SourceError(
            f"{where}: preprocessing gives {stated.height}x{stated.width} pixels but the model sees "
            f"{image_size[0]}x{image_size[1]}: pass image_size"
        )
    return dataclasses.replace(
        stated,
        mean=options.mean or stated.mean,
        std=options.std or stated.std,
        interpolation=options.interpolation or stated.interpolation,
    )


def to_processor(spec: PreprocessSpec) -> dict[str, Any]:
    """A `preprocessor_config.json` for transformers and transformers.js that says what the spec says."""
    short_side = spec.resize_mode is ResizeMode.SHORT_SIDE
    height, width = spec.resize
    crops = short_side or spec.resize != (spec.height, spec.width) or spec.resize_mode is ResizeMode.NONE
    config: dict[str, Any] = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": spec.resize_mode is not ResizeMode.NONE,
        "size": {"shortest_edge": height} if short_side else {"height": height, "width": width},
        "resample": next(number for number, kind in _RESAMPLE.items() if kind is spec.interpolation),
        "do_center_crop": crops,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
    }
    if crops:
        config["crop_size"] = {"height": spec.height, "width": spec.width}
    return config


def _family(raw: Mapping[str, Any], where: str) -> _Family:
    name = raw.get("image_processor_type", raw.get("feature_extractor_type", "ViTImageProcessor"))
    for stem, family in _FAMILIES.items():
        if name in {stem + suffix for suffix in _SUFFIXES}:
            return family
    raise SourceError(
        f"{where}: the image processor {name!r} is not known: use one of {', '.join(_FAMILIES)} "
        "(ViTImageProcessor ...) or pass mean, std, interpolation and crop_pct with the file removed"
    )


def _resize(raw: Mapping[str, Any], family: _Family, where: str) -> tuple[ResizeMode, tuple[int, int]]:
    size = raw.get("size", family.size)
    if not flag(raw, "do_resize", where, True):
        crop = raw.get("crop_size", size) if flag(raw, "do_center_crop", where, family.center_crop) else size
        return ResizeMode.NONE, sides(crop, "size", where)
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
        size, square = size["shortest_edge"], False
    else:
        square = family.square or not isinstance(size, int)
    return ResizeMode.EXACT if square else ResizeMode.SHORT_SIDE, sides(size, "size", where)


def _interpolation(raw: Mapping[str, Any], family: _Family, where: str) -> Interpolation:
    value = raw.get("resample")
    if value is None:
        return family.resample
    if type(value) is not int or value not in _RESAMPLE:
        raise SourceError(f"{where}: resample must be one of Pillow's integers 0 to 5, got {value!r}")
    return _RESAMPLE[value]


def _statistics(raw: Mapping[str, Any], family: _Family, where: str) -> tuple[Triple, Triple]:
    # (pixel * factor - mean) / std, rewritten for pixel / 255; the usual factor leaves both untouched.
    factor = number(raw, "rescale_factor", where, 1 / 255) if flag(raw, "do_rescale", where, True) else 1.0
    if factor <= 0:
        raise SourceError(f"{where}: rescale_factor must be positive, got {factor}")
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    if flag(raw, "do_normalize", where, True):
        mean = _triple(raw.get("image_mean", family.mean), "image_mean", where)
        std = _triple(raw.get("image_std", family.std), "image_std", where)
    if math.isclose(factor, 1 / 255, rel_tol=1e-6):
        return mean, std
    scale = 1 / (255 * factor)
    return _times(mean, scale), _times(std, scale)


def _times(values: Triple, scale: float) -> Triple:
    return values[0] * scale, values[1] * scale, values[2] * scale


def _triple(value: object, key: str, where: str) -> Triple:
    if isinstance(value, list | tuple) and len(value) == 3:
        red, green, blue = value
        if all(type(part) in (int, float) and math.isfinite(part) for part in value):
            return float(red), float(green), float(blue)
    raise SourceError(f"{where}: {key} must be three numbers, got {value!r}")


def _geometry_of(options: SourceOptions, image_size: tuple[int, int]) -> dict[str, Any] | None:
    if options.crop_pct is None and options.resize_mode is None:
        return None
    mode = options.resize_mode or ResizeMode.SHORT_SIDE
    share = options.crop_pct or 1.0
    resize = (math.floor(image_size[0] / share), math.floor(image_size[1] / share))
    if mode is ResizeMode.SHORT_SIDE:
        resize = (max(resize), max(resize))  # covers the crop whatever the image's aspect ratio
    return {"height": image_size[0], "width": image_size[1], "resize_mode": mode, "resize": resize}


def _from_options_alone(
    options: SourceOptions, geometry: dict[str, Any] | None, where: str
) -> PreprocessSpec:
    given = {"mean": options.mean, "std": options.std, "interpolation": options.interpolation}
    lacking = [name for name, value in given.items() if value is None]
    lacking += ["crop_pct or resize_mode"] if geometry is None else []
    if lacking:
        raise SourceError(f"{where} does not say how its images are preprocessed: pass {', '.join(lacking)}")
    return PreprocessSpec(**given, **(geometry or {}))  # type: ignore[arg-type]


def _scaled(spec: PreprocessSpec, image_size: tuple[int, int]) -> PreprocessSpec:
    resize = (spec.resize[0] * image_size[0] // spec.height, spec.resize[1] * image_size[1] // spec.width)
    if spec.resize_mode is ResizeMode.SHORT_SIDE:
        resize = (max(resize), max(resize))
    return dataclasses.replace(spec, height=image_size[0], width=image_size[1], resize=resize)
