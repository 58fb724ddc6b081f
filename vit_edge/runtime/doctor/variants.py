"""The other ways to make a model's input that people are known to have meant."""

import dataclasses
import enum
import math

import numpy as np

from vit_edge.arrays import Array, Pixels
from vit_edge.diagnosis import Code
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.session import feed_of
from vit_edge.spec import InputForm, Interpolation, PreprocessSpec, ResizeMode

_NEAR = 0.02  # in units of pixel / 255; a mean and a deviation as near as this are the stated ones
_KNOWN = {  # as training recipes have them, of pixel / 255
    "ImageNet's mean and std": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mean and std 0.5": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "CLIP's mean and std": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "no mean and std": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
_FILTERS = (Interpolation.NEAREST, Interpolation.BILINEAR, Interpolation.BICUBIC, Interpolation.LANCZOS)
_SHARES = (1.0, 0.95, 0.9, 0.875)  # of the short side that the crop keeps
_STEPS = (-32, 32, 64)  # pixels by which other sizes differ

Triple = tuple[float, float, float]


class Layout(enum.Enum):
    """Where an image's numbers lie in the input."""

    STATED = "as stated"
    TRANSPOSED = "rows and columns exchanged"
    INTERLEAVED = "the other place of the colours, never transposed"  # NHWC bytes in NCHW, or the other way


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to make the input."""

    code: Code
    name: str
    spec: PreprocessSpec
    reversed_colours: bool = False
    layout: Layout = Layout.STATED

    def feed(self, model: ModelFile, pixels: Pixels) -> dict[str, Array]:
        """The input of a file; `pixels` (N, H, W, 3) uint8 are as `spec` makes them."""
        given = np.ascontiguousarray(pixels[..., ::-1]) if self.reversed_colours else pixels
        feed: dict[str, Array] = feed_of(model, given, self.spec)
        return {name: np.ascontiguousarray(_laid_out(values, self.layout)) for name, values in feed.items()}


def _laid_out(values: Array, layout: Layout) -> Array:
    """An input (N, 3, H, W) or (N, H, W, 3) in another layout of the same shape."""
    last = values.shape[-1] == 3  # colours; of a square image of 3 x 3 pixels it would not matter
    if layout is Layout.TRANSPOSED:
        return values.transpose(0, 2, 1, 3) if last else values.transpose(0, 1, 3, 2)
    if layout is Layout.INTERLEAVED:
        other = values.transpose(0, 3, 1, 2) if last else values.transpose(0, 2, 3, 1)
        return np.ascontiguousarray(other).reshape(values.shape)
    return values


def variants_of(model: ModelFile, spec: PreprocessSpec) -> list[Variant]:
    """All that are tried for a model whose images are made by `spec`."""
    found = [Variant(Code.CHANNEL_ORDER, "BGR in place of RGB", spec, reversed_colours=True)]
    layouts = [Layout.INTERLEAVED] + ([Layout.TRANSPOSED] if spec.height == spec.width else [])
    found += [Variant(Code.LAYOUT, layout.value, spec, layout=layout) for layout in layouts]
    if model.form is InputForm.PIXEL_VALUES:
        found += _normalisations(spec)
    found += [
        Variant(Code.INTERPOLATION, each.value, dataclasses.replace(spec, interpolation=each))
        for each in _FILTERS
        if each is not spec.interpolation and spec.resize_mode is not ResizeMode.NONE
    ]
    return found + _crops(spec) + (_sizes(spec) if model.size is None else [])


def _normalisations(spec: PreprocessSpec) -> list[Variant]:
    found = []
    for name, (mean, std) in _KNOWN.items():
        if not (_near(mean, spec.mean) and _near(std, spec.std)):
            found.append((name, mean, std))
        raw_mean, raw_std = _unscaled(mean), _unscaled(std)
        if not (_near(raw_mean, spec.mean) and _near(raw_std, spec.std, 1e-3)):
            found.append((f"{name} on values of 0 to 255", raw_mean, raw_std))
    return [
        Variant(Code.NORMALISATION, name, dataclasses.replace(spec, mean=mean, std=std))
        for name, mean, std in found
    ]


def _unscaled(values: Triple) -> Triple:
    """What (pixel - mean) / std is with pixel / 255."""
    first, second, third = (each / 255.0 for each in values)
    return first, second, third


def _near(one: Triple, other: Triple, by: float = _NEAR) -> bool:
    return all(math.isclose(a, b, abs_tol=by) for a, b in zip(one, other, strict=True))


def _crops(spec: PreprocessSpec) -> list[Variant]:
    """Squeezed into the size, or with parts of the margin cut off."""
    size = spec.height, spec.width
    ways = {"squeezed to the size, without a crop": (ResizeMode.EXACT, size)}
    for share in _SHARES:
        sides = math.floor(size[0] / share), math.floor(size[1] / share)
        if size[0] == size[1]:
            ways[f"short side to {sides[0]}, then a crop"] = (ResizeMode.SHORT_SIDE, sides)
        else:
            ways[f"covering {sides[0]}x{sides[1]}, then a crop"] = (ResizeMode.COVER, sides)
    return [
        Variant(Code.CROP, name, dataclasses.replace(spec, resize_mode=mode, resize=sides))
        for name, (mode, sides) in ways.items()
        if (mode, sides) != (spec.resize_mode, spec.resize)
    ]


def _sizes(spec: PreprocessSpec) -> list[Variant]:
    """Other sizes, where the file leaves that open; the resize keeps its share."""
    found = []
    for step in _STEPS:
        height, width = spec.height + step, spec.width + step
        if min(height, width) < 1:
            continue
        factor = height / spec.height, width / spec.width
        resize = round(spec.resize[0] * factor[0]), round(spec.resize[1] * factor[1])
        if spec.resize_mode is ResizeMode.SHORT_SIDE:
            resize = (resize[0], resize[0])
        changed = dataclasses.replace(spec, height=height, width=width, resize=resize)
        found.append(Variant(Code.IMAGE_SIZE, f"{height}x{width} pixels", changed))
    return found
