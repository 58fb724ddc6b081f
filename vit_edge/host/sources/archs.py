"""The ViT and DeiT architectures that timm and torchvision publish plain weights for, and timm's transform.

Source: the model definitions and `default_cfgs` of timm's vision_transformer.py and deit.py, and those of
torchvision's models/vision_transformer.py. What the weights
themselves show (classes, class token, registers, bias, average pooling) is read from the weights.
"""

import dataclasses
import difflib
import math
from collections.abc import Mapping

from vit_edge.errors import UsageError
from vit_edge.host.sources.types import Library, Triple
from vit_edge.spec import CropRule, Interpolation, PreprocessSpec, ResizeMode

HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Arch:
    """A published architecture; the feed-forward layer is four times as wide as the residual stream."""

    dim: int
    depth: int
    heads: int
    patch: int
    size: int  # pixels, square
    distilled: bool = False
    crop_pct: float = 0.9  # of timm's evaluation transform
    library: Library = Library.TIMM  # whose name for it this is


def evaluation(
    size: tuple[int, int], crop_pct: float, interpolation: Interpolation, mean: Triple, std: Triple
) -> PreprocessSpec:
    """The evaluation transform of timm/data/transforms_factory.py in its crop mode `center`.

    The short side is resized to floor(size / crop_pct); for an input that is not square, the image is resized
    until it covers the input enlarged by as much. Then the centre is cropped as torchvision does it.

    Args:
        size: pixels (height, width) that the model sees.
        crop_pct: the share of the resized side that the crop keeps, above 0 and at most 1.
        interpolation: of the resize.
        mean: RGB, of values in [0, 1].
        std: RGB, of values in [0, 1].
    """
    enlarged = math.floor(size[0] / crop_pct), math.floor(size[1] / crop_pct)
    mode = ResizeMode.SHORT_SIDE if enlarged[0] == enlarged[1] else ResizeMode.COVER
    return PreprocessSpec(*size, mode, enlarged, interpolation, mean, std, CropRule.TORCHVISION)


WIDTHS = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
_VIT_SHAPES = (  # width name, patch, image size
    ("tiny", 16, 224),
    ("tiny", 16, 384),
    ("small", 16, 224),
    ("small", 16, 384),
    ("small", 32, 224),
    ("small", 32, 384),
    ("base", 8, 224),
    ("base", 16, 224),
    ("base", 16, 384),
    ("base", 32, 224),
    ("base", 32, 384),
    ("large", 16, 224),
    ("large", 16, 384),
    ("large", 32, 384),
)
_DEIT_SHAPES = (("tiny", 224), ("small", 224), ("base", 224), ("base", 384))


def _crop_pct(size: int) -> float:
    return 0.9 if size == 224 else 1.0


def _archs() -> dict[str, Arch]:
    archs = {
        f"vit_{name}_patch{patch}_{size}": Arch(*WIDTHS[name], patch, size, crop_pct=_crop_pct(size))
        for name, patch, size in _VIT_SHAPES
    }
    for name, size in _DEIT_SHAPES:
        for infix, distilled in (("", False), ("_distilled", True)):
            archs[f"deit_{name}{infix}_patch16_{size}"] = Arch(
                *WIDTHS[name], 16, size, distilled, _crop_pct(size)
            )
    return archs


ARCHS: Mapping[str, Arch] = _archs()
TORCHVISION_ARCHS: Mapping[str, Arch] = {
    name: Arch(*shape, size=224, library=Library.TORCHVISION)
    for name, shape in {
        "vit_b_16": (*WIDTHS["base"], 16),
        "vit_b_32": (*WIDTHS["base"], 32),
        "vit_l_16": (*WIDTHS["large"], 16),
        "vit_l_32": (*WIDTHS["large"], 32),
        "vit_h_14": (1280, 32, 16, 14),
    }.items()
}
_OTHERS = {  # what timm's names of other families contain; the first that fits
    "eva02": "EVA-02",
    "eva_": "EVA",
    "dinov3": "DINOv3",
    "dinov2": "DINOv2",
    "siglip": "SigLIP",
    "clip": "CLIP",
    "beit": "BEiT",
    "swinv2": "Swin V2",
    "swin_": "Swin",
}


def find_arch(name: str) -> Arch:
    """The architecture of this name; a tag behind a dot (`.augreg_in21k_ft_in1k`) is allowed.

    Raises:
        UsageError: unknown; the message holds the nearest names.
    """
    base = name.partition(".")[0]
    known = {**ARCHS, **TORCHVISION_ARCHS}
    if base in known:
        return known[base]
    family = next((family for mark, family in _OTHERS.items() if mark in base), None)
    if family is not None:
        raise UsageError(
            f"{name!r} is a {family} of timm that is read through timm alone: pip install timm (with a "
            "torchvision that fits this torch), or pass the model itself as module:callable"
        )
    near = difflib.get_close_matches(base, known, n=3) or sorted(ARCHS)[:3]
    raise UsageError(
        f"unknown architecture {name!r}: nearest are {', '.join(near)}; "
        "for another one pass the model itself as module:callable"
    )
