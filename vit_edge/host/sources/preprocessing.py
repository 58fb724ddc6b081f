"""Preprocessing from a Hugging Face image processor's config or from options, and back into such a config."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vit_edge.errors import SourceError
from vit_edge.host.sources.processors import (
    FAST,
    RESAMPLE,
    RULE_KEY,
    crop_rule,
    family_of,
    geometry_of,
    interpolation_of,
    processor_name,
    stated_rule,
    statistics_of,
    switch,
    whose_choice,
)
from vit_edge.host.sources.types import SourceOptions
from vit_edge.spec import PreprocessSpec, ResizeMode


def from_processor(raw: Mapping[str, Any], where: str, model_type: str = "vit") -> PreprocessSpec:
    """The numeric recipe of a `preprocessor_config.json` of one of transformers' image processors.

    Known are those of ViT, DeiT, BEiT, CLIP, BiT, SigLIP and ConvNeXt. A name that ends in Fast means the
    processor on torchvision's tensors, any other the one on Pillow images; they differ in where an odd
    padding goes. The resize is Pillow's for both; `docs/preprocessing.md` says how torchvision's differs.

    Args:
        raw: the parsed file.
        where: its name for messages.
        model_type: of the model's config, which decides where the file names no processor.

    Raises:
        SourceError: an unknown processor, a malformed value, or a recipe whose output has no fixed size.
    """
    name = processor_name(raw, model_type)
    family = family_of(name, where)
    if switch(raw, "do_pad", where, False):
        raise SourceError(f"{where}: do_pad is not supported: train with a resize and a centre crop instead")
    found = geometry_of(raw, family, where)
    interpolation, (mean, std) = interpolation_of(raw, family, where), statistics_of(raw, family, where)
    (height, width), rule = found.crop, crop_rule(raw, name, where)
    try:
        return PreprocessSpec(height, width, found.mode, found.resize, interpolation, mean, std, rule)
    except ValueError as error:
        raise SourceError(f"{where}: {error}") from None


def processor_notes(raw: Mapping[str, Any], where: str, model_type: str = "vit") -> tuple[str, ...]:
    """What `from_processor` had to decide because the file leaves it open, a sentence each."""
    name, notes = processor_name(raw, model_type), []
    if not (raw.get("image_processor_type") or raw.get("feature_extractor_type")):
        notes.append(f"{where} names no image processor: it is read as {name}, {whose_choice(model_type)}")
    if stated_rule(raw) is None:
        notes.append(
            f"pixels are made as transformers 5 makes them with {name} and "
            + ("torchvision" if name.endswith(FAST) else "Pillow")
            + "; its resize is Pillow's, from which torchvision's differs by rounding"
        )
        if not switch(raw, "do_resize", where, True):
            notes.append(f"{where} has do_resize false: other sizes are cropped or padded at the centre")
    return tuple(notes)


def with_options(
    stated: PreprocessSpec | None, options: SourceOptions, image_size: tuple[int, int], where: str
) -> PreprocessSpec:
    """What the source states, overridden by the options, for a model that sees `image_size` (height, width).

    With `options.image_size` the source's resize is scaled in proportion, unless its geometry is replaced.

    Raises:
        SourceError: the source states nothing and the options do not complete it, or the sizes do not fit.
    """
    geometry = options.stated.geometry(image_size)
    if stated is None:
        stated = _from_options_alone(options, image_size, where)
    elif geometry is not None:
        stated = dataclasses.replace(stated, **dataclasses.asdict(geometry))
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
        crop=options.crop_rule or stated.crop,
    )


def size_notes(
    stated: PreprocessSpec | None, used: PreprocessSpec, options: SourceOptions
) -> tuple[str, ...]:
    """A note where an option for the model's size alone made `with_options` scale the stated resize."""
    geometry = options.crop_pct is not None or options.resize_mode is not None
    if stated is None or geometry or (stated.height, stated.width) == (used.height, used.width):
        return ()
    return (f"the resize is scaled in proportion to the image size, to {used.resize[0]}x{used.resize[1]}",)


def rule_notes(used: PreprocessSpec, options: SourceOptions) -> tuple[str, ...]:
    """A note where neither the source nor the options say how an odd margin of the crop is halved."""
    crops = used.resize_mode is not ResizeMode.EXACT or used.resize != (used.height, used.width)
    if options.crop_rule is not None or not crops:
        return ()
    return (
        f"an odd margin of the centre crop is halved as {used.crop.value} does it: pass --crop-rule if not",
    )


def to_processor(spec: PreprocessSpec) -> dict[str, Any]:
    """A `preprocessor_config.json` for transformers and transformers.js that says what the spec says.

    CLIP's processor is the one that crops in every version of them. It knows no other rounding than its own,
    so a rule of another library stands under a key that only we read. COVER is written as the resize of the
    short side that leaves no less.
    """
    short_side = spec.resize_mode in (ResizeMode.SHORT_SIDE, ResizeMode.COVER)
    height, width = spec.resize
    crops = short_side or spec.resize != (spec.height, spec.width) or spec.resize_mode is ResizeMode.NONE
    config: dict[str, Any] = {
        "image_processor_type": "CLIPImageProcessor" if crops else "ViTImageProcessor",
        "do_resize": spec.resize_mode is not ResizeMode.NONE,
        "size": {"shortest_edge": max(spec.resize)} if short_side else {"height": height, "width": width},
        "resample": next(number for number, kind in RESAMPLE.items() if kind is spec.interpolation),
        "do_center_crop": crops,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
        RULE_KEY: spec.crop.value,
    }
    if crops:
        config["crop_size"] = {"height": spec.height, "width": spec.width}
    return config


def _from_options_alone(options: SourceOptions, image_size: tuple[int, int], where: str) -> PreprocessSpec:
    try:
        return options.stated.complete(image_size)
    except ValueError as error:
        raise SourceError(f"{where} does not say how its images are preprocessed: pass {error}") from None


def _scaled(spec: PreprocessSpec, image_size: tuple[int, int]) -> PreprocessSpec:
    resize = (spec.resize[0] * image_size[0] // spec.height, spec.resize[1] * image_size[1] // spec.width)
    if spec.resize_mode is ResizeMode.SHORT_SIDE:
        resize = (max(resize), max(resize))
    return dataclasses.replace(spec, height=image_size[0], width=image_size[1], resize=resize)
