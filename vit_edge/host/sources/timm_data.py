"""How timm preprocesses for its pretrained tags, and for a checkpoint that brings its own data config.

Source: `default_cfgs` of timm 1.0.31's vision_transformer.py and deit.py, whose first tag of a model is what
timm takes where none is named, and `resolve_data_config` with `use_test_size=False`.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_edge.errors import SourceError, UsageError
from vit_edge.host.sources.archs import HALF, IMAGENET_MEAN, IMAGENET_STD, Arch, evaluation, find_arch
from vit_edge.host.sources.jsonfile import number, read_object
from vit_edge.host.sources.types import SourceOptions, Triple
from vit_edge.spec import Interpolation, PreprocessSpec, ResizeMode

_FT, _21K, _1K = "augreg_in21k_ft_in1k", "augreg_in21k", "augreg_in1k"
_TAGS: Mapping[str, tuple[str, ...]] = {  # the default first; of DeiT there is one for each model
    "vit_tiny_patch16_224": (_FT, _21K),
    "vit_tiny_patch16_384": (_FT,),
    "vit_small_patch16_224": (_FT, _1K, _21K, "dino"),
    "vit_small_patch16_384": (_FT, _1K),
    "vit_small_patch32_224": (_FT, _21K),
    "vit_small_patch32_384": (_FT,),
    "vit_base_patch8_224": ("augreg2_in21k_ft_in1k", _FT, _21K, "dino"),
    "vit_base_patch16_224": (
        "augreg2_in21k_ft_in1k",
        _FT,
        "orig_in21k_ft_in1k",
        _1K,
        "orig_in21k",
        _21K,
        "sam_in1k",
        "bamboo",
        "dino",
        "mae",
    ),
    "vit_base_patch16_384": (_FT, "orig_in21k_ft_in1k", _1K),
    "vit_base_patch32_224": (_FT, _1K, "orig_in21k", _21K, "sam_in1k"),
    "vit_base_patch32_384": (_FT, _1K),
    "vit_large_patch16_224": (_FT, "orig_in21k", _21K, "mae"),
    "vit_large_patch16_384": (_FT,),
    "vit_large_patch32_384": ("orig_in21k_ft_in1k",),
}
_DEIT_TAGS = ("fb_in1k",)


@dataclasses.dataclass(frozen=True)
class _Statistics:
    mean: Triple
    std: Triple
    crop_pct: float | None = None  # None: that of the architecture


_IMAGENET = _Statistics(IMAGENET_MEAN, IMAGENET_STD)
_CLIP = _Statistics((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), 1.0)
_BY_TAG = {"dino": _IMAGENET, "mae": _IMAGENET, "fb_in1k": _IMAGENET, "bamboo": _CLIP}
_USUAL = _Statistics(HALF, HALF)
_CLASSES = {"in1k": 1000, _21K: 21843, "bamboo": 115217}  # of a tag that ends so


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A recipe, and what had to be assumed for it."""

    spec: PreprocessSpec
    notes: tuple[str, ...]


def tags_of(arch_name: str) -> tuple[str, ...]:
    """The pretrained tags of an architecture, timm's default first."""
    return _TAGS.get(arch_name, _DEIT_TAGS)


def prepared(
    name: str, file: Path, image_size: tuple[int, int], classes: int, options: SourceOptions
) -> Prepared:
    """How images are preprocessed for a file of timm weights.

    A `config.json` beside the file with timm's `pretrained_cfg` says it; else the tag in the name decides,
    and without a tag timm's default one.

    Args:
        name: of the architecture, with or without a tag: `vit_base_patch16_224.dino`.
        file: the weights.
        image_size: pixels (height, width) that the model is to see.
        classes: that the weights' head has.
        options: what the user states.

    Raises:
        SourceError: a data config that is malformed, or that asks for what no recipe here can do.
        UsageError: an unknown tag; the message names the known ones.
    """
    base, _, tag = name.partition(".")
    own = own_config(file, base)
    if own is not None:
        return from_pretrained_cfg(own, "config.json", image_size, options)
    arch, known = find_arch(base), tags_of(base)
    if tag and tag not in known:
        raise UsageError(
            f"unknown timm tag {tag!r} of {base}: known are {', '.join(known)}; leave the tag out and pass "
            "--mean, --std and --crop-pct for other weights"
        )
    return Prepared(_of_tag(arch, tag or known[0], image_size), _tag_notes(base, tag, known, classes))


def from_pretrained_cfg(
    raw: Mapping[str, Any], where: str, image_size: tuple[int, int], options: SourceOptions
) -> Prepared:
    """The recipe of timm's `pretrained_cfg`, as it stands in the `config.json` of a saved timm model.

    What it leaves out has timm's default: a crop of 0.875, bicubic, ImageNet's mean and std.

    Args:
        raw: the parsed `pretrained_cfg`.
        where: its file, for messages.
        image_size: pixels (height, width) that the model is to see.
        options: what they replace need not be a recipe that is known here.

    Raises:
        SourceError: a malformed value, a crop mode or interpolation that has no fixed recipe here.
    """
    raw = {key: value for key, value in raw.items() if value is not None}
    share = number(raw, "crop_pct", where, 0.875)
    if not 0 < share <= 1:
        raise SourceError(f"{where}: crop_pct must be above 0 and at most 1, got {share}")
    mean = _triple(raw.get("mean", IMAGENET_MEAN), "mean", where)
    std = _triple(raw.get("std", IMAGENET_STD), "std", where)
    if not all(deviation > 0 for deviation in std):
        raise SourceError(f"{where}: std must be positive, got {std}")
    interpolation = options.interpolation or _interpolation(raw, where)
    spec = evaluation(image_size, share, interpolation, mean, std)
    replaced = options.crop_pct is not None or options.resize_mode is not None
    if not replaced and _squashes(raw, where):
        spec = dataclasses.replace(spec, resize_mode=ResizeMode.EXACT)
    return Prepared(spec, _default_notes(raw, options, where))


def _interpolation(raw: Mapping[str, Any], where: str) -> Interpolation:
    stated = raw.get("interpolation", Interpolation.BICUBIC.value)
    try:
        return Interpolation(stated)
    except ValueError:
        known = ", ".join(each.value for each in Interpolation)
        raise SourceError(
            f"{where}: interpolation {stated!r} is none of {known}: say with --interpolation what to use"
        ) from None


def _squashes(raw: Mapping[str, Any], where: str) -> bool:
    """Whether the aspect ratio is given up; refuses what is neither that nor a centre crop."""
    mode = raw.get("crop_mode", "center")
    if mode in ("center", "squash"):
        return bool(mode == "squash")
    told = (
        "'border' fits the longer side and pads with the mean colour, which no recipe here does"
        if mode == "border"
        else f"{mode!r} is neither center nor squash"
    )
    raise SourceError(
        f"{where}: crop_mode {told}: evaluate the model in timm with crop_mode squash or center, and if it "
        "is as good, say so with --resize-mode exact or short_side (and --crop-pct)"
    )


def _default_notes(raw: Mapping[str, Any], options: SourceOptions, where: str) -> tuple[str, ...]:
    """A note on what has timm's default, as neither the file nor the user says it."""
    stated = {"crop_pct": options.crop_pct or options.resize_mode} | {
        name: getattr(options, name) for name in ("interpolation", "mean", "std")
    }
    open_ = [name for name, said in stated.items() if name not in raw and said is None]
    if not open_:
        return ()
    return (f"{Path(where).name} leaves {', '.join(open_)} open, so timm's defaults are taken",)


def own_config(file: Path, base: str) -> dict[str, Any] | None:
    """The `pretrained_cfg` beside weights, None where there is none; SourceError if it is another model's."""
    config = file.parent / "config.json"
    if not config.is_file():
        return None
    whole = read_object(config)
    own = whole.get("pretrained_cfg")
    if not isinstance(own, dict):
        return None
    stated = str(whole.get("architecture", base)).partition(".")[0]
    if stated != base:
        raise SourceError(f"{config} is of {stated}, not of {base}: name that architecture, or move the file")
    return own


def _of_tag(arch: Arch, tag: str, image_size: tuple[int, int]) -> PreprocessSpec:
    found = _BY_TAG.get(tag, _USUAL)
    return evaluation(
        image_size, found.crop_pct or arch.crop_pct, Interpolation.BICUBIC, found.mean, found.std
    )


def _tag_notes(base: str, tag: str, known: tuple[str, ...], classes: int) -> tuple[str, ...]:
    used = tag or known[0]
    published = next((count for end, count in _CLASSES.items() if used.endswith(end)), None)
    notes = []
    if not tag:
        others = f" (others: {', '.join(known[1:])})" if known[1:] else ""
        notes.append(
            f"no timm tag is named, so images are preprocessed as for timm's default, {used}{others}"
        )
    if classes != published:
        notes.append(
            f"a head of {classes} classes is not that of {base}.{used}, so the weights were fine-tuned: that "
            "their images were preprocessed as for the tag is assumed"
        )
    return tuple(notes)


def _triple(value: object, key: str, where: str) -> Triple:
    if isinstance(value, list | tuple) and len(value) == 3 and all(type(v) in (int, float) for v in value):
        red, green, blue = value
        return float(red), float(green), float(blue)
    raise SourceError(f"{where}: {key} must be three numbers, got {value!r}")
