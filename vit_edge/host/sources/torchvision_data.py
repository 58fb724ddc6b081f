"""How torchvision preprocesses for its published weights: the `transforms` of each `..._Weights` enum.

Source: torchvision 0.28's models/vision_transformer.py and swin_transformer.py, `ImageClassification` of
transforms/_presets.py: the short side is resized, bicubic or bilinear with Pillow, the centre cropped.
"""

import dataclasses
from collections.abc import Mapping

from vit_edge.errors import UsageError
from vit_edge.host.sources.archs import IMAGENET_MEAN, IMAGENET_STD
from vit_edge.host.sources.timm_data import Prepared
from vit_edge.spec import CropRule, Interpolation, PreprocessSpec, ResizeMode

_CLASSES = 1000  # of every published head


@dataclasses.dataclass(frozen=True)
class Preset:
    """An `ImageClassification` transform; sides in pixels."""

    crop: int
    resize: int
    interpolation: Interpolation = Interpolation.BICUBIC


_V1, _E2E, _LINEAR = "IMAGENET1K_V1", "IMAGENET1K_SWAG_E2E_V1", "IMAGENET1K_SWAG_LINEAR_V1"
_USUAL = Preset(224, 256, Interpolation.BILINEAR)
_FROZEN = Preset(224, 224)  # a linear head on features of SWAG
PRESETS: Mapping[str, Mapping[str, Preset]] = {  # the default tag first
    "vit_b_16": {_V1: _USUAL, _E2E: Preset(384, 384), _LINEAR: _FROZEN},
    "vit_b_32": {_V1: _USUAL},
    "vit_l_16": {
        _V1: Preset(224, 242, Interpolation.BILINEAR),
        _E2E: Preset(512, 512),
        _LINEAR: _FROZEN,
    },
    "vit_l_32": {_V1: _USUAL},
    "vit_h_14": {_E2E: Preset(518, 518), _LINEAR: _FROZEN},
    "swin_t": {_V1: Preset(224, 232)},
    "swin_s": {_V1: Preset(224, 246)},
    "swin_b": {_V1: Preset(224, 238)},
    "swin_v2_t": {_V1: Preset(256, 260)},
    "swin_v2_s": {_V1: Preset(256, 260)},
    "swin_v2_b": {_V1: Preset(256, 272)},
}


def is_torchvision(name: str) -> bool:
    """Whether an architecture's name, with or without a tag, is one of torchvision's."""
    return name.partition(".")[0] in PRESETS


def preset_of(name: str) -> tuple[str, Preset]:
    """The tag of a name (`vit_b_16.IMAGENET1K_SWAG_E2E_V1`), or the default one, and its transform.

    Raises:
        UsageError: an unknown tag; the message names the known ones.
    """
    base, _, tag = name.partition(".")
    known = PRESETS[base]
    if tag and tag not in known:
        raise UsageError(
            f"unknown torchvision weights {tag!r} of {base}: known are {', '.join(known)}; leave them out "
            "and pass --mean, --std and --crop-pct for other weights"
        )
    used = tag or next(iter(known))
    return used, known[used]


def prepared_by_torchvision(name: str, image_size: tuple[int, int], classes: int) -> Prepared:
    """How images are preprocessed for a file of torchvision's weights.

    Args:
        name: of the architecture, with or without the weights' name behind a dot.
        image_size: pixels (height, width) that the model is to see; the resize keeps its proportion to it.
        classes: that the head has.

    Raises:
        UsageError: an unknown tag.
    """
    used, preset = preset_of(name)
    resized = (
        image_size[0] * preset.resize // preset.crop,
        image_size[1] * preset.resize // preset.crop,
    )
    mode = ResizeMode.SHORT_SIDE if resized[0] == resized[1] else ResizeMode.COVER
    spec = PreprocessSpec(
        *image_size, mode, resized, preset.interpolation, IMAGENET_MEAN, IMAGENET_STD, CropRule.TORCHVISION
    )
    return Prepared(spec, _notes(name, used, preset, image_size, classes))


def _notes(
    name: str, used: str, preset: Preset, image_size: tuple[int, int], classes: int
) -> tuple[str, ...]:
    base, _, tag = name.partition(".")
    notes = []
    if not tag:
        others = [each for each in PRESETS[base] if each != used]
        told = f" (others: {', '.join(others)})" if others else ""
        notes.append(f"no weights of torchvision are named, so images are preprocessed as for {used}{told}")
    if image_size != (preset.crop, preset.crop):
        notes.append(f"the resize of {used} is scaled in proportion to the image size")
    if classes != _CLASSES:
        notes.append(
            f"a head of {classes} classes is not that of {base}.{used}, so the weights were fine-tuned: that "
            "their images were preprocessed as for it is assumed"
        )
    return tuple(notes)
