"""True masks from a folder of pictures, and a model's masks held against them.

A mask bears the name of its image, has its size, and in each pixel the index of the class, in 8 or 16 bits
of grey or as a palette's; LEFT_OUT stands for what is left out, as in the masks of Pascal VOC and Cityscapes.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vit_edge.errors import DatasetError, ImageError
from vit_edge.runtime.evaluate.folder import image_names
from vit_edge.runtime.evaluate.truth.base import SHOWN, Maps, Named, Truth, absent, left_out, upright_size
from vit_edge.runtime.image.decode import open_image
from vit_edge.runtime.image.limits import DecodeLimits
from vit_edge.runtime.image.preprocess import seen_box
from vit_edge.runtime.predict.segmentation import UNSEEN, Segmentation
from vit_edge.spec import PreprocessSpec
from vit_edge.verify.mean_overlap import MaskScores, mask_scores

LEFT_OUT = 255
_MODES = ("L", "P", "1", "I;16")


@dataclasses.dataclass(frozen=True, eq=False)
class MaskTruth(Truth):
    """True masks of images."""

    masks: Mapping[Path, Path]
    """By the image."""
    classes: int
    """That a mask of the model can show."""
    output: str
    """The model's map."""
    limits: DecodeLimits
    notes: tuple[str, ...] = ()

    def scores(self, paths: Sequence[Path], made: Maps, spec: PreprocessSpec) -> MaskScores:
        """See `Truth`; what the crop of the preprocessing cut off counts neither way."""
        parts = []
        for path, own in zip(paths, made[self.output], strict=True):
            true = _read(self.masks[path], self.limits)
            height, width = true.shape
            answer = Segmentation({self.output: own}, (height, width), seen_box(width, height, spec), None)
            found = answer.mask()
            kept = (true != LEFT_OUT) & (found != UNSEEN)
            parts.append(mask_scores(found[kept], true[kept], self.classes))
        return MaskScores.joined(parts)


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the masks are of."""

    paths: tuple[Path, ...]
    folder: str
    limits: DecodeLimits
    output: str
    channels: int | None
    """Of the map."""


def read_masks(source: Path, asked: Asked) -> MaskTruth:
    """Find the mask of every image, and look at all of them.

    Raises:
        DatasetError: masks of images that are not there, of another size or with classes that the model has
            not.
        ImageError: an image or a mask cannot be read.
    """
    where = str(source)
    names = image_names(source, asked.limits)
    if not names:
        raise DatasetError(
            f"{where} holds no mask; give a folder with a picture for each image, named as it is"
        )
    classes = None if asked.channels is None else max(asked.channels, 2)
    if classes is not None and classes > LEFT_OUT:
        raise DatasetError(f"masks tell at most {LEFT_OUT} classes, and the model gives {classes}")
    masks = _matched(source, names, asked)
    seen: set[int] = set()
    for image, mask in masks.items():
        found = _checked(image, mask, classes, asked.limits)
        seen |= found - {LEFT_OUT}
    if len(seen) < 2:
        shown = f"class {min(seen)} alone" if seen else "nothing"
        raise DatasetError(
            f"the masks of {where} show {shown} ({LEFT_OUT} is left out): there is nothing to tell apart; "
            "write the index of the class into each pixel"
        )
    count = 1 + max(seen) if classes is None else classes
    return MaskTruth(masks, count, asked.output, asked.limits, left_out(len(asked.paths) - len(masks), where))


def _matched(source: Path, names: Sequence[str], asked: Asked) -> dict[Path, Path]:
    named, masks, missing = Named(asked.paths, whole=False), dict[Path, Path](), list[str]()
    for name in names:
        path = named.find(Path(name).as_posix(), str(source))
        if path is None:
            missing.append(name)
            continue
        if path in masks:
            raise DatasetError(f"{source / name} and {masks[path]} are both masks of {path.name}; keep one")
        masks[path] = source / name
    if missing:
        raise DatasetError(absent(missing, len(names), str(source), asked.folder))
    return masks


def _checked(image: Path, mask: Path, classes: int | None, limits: DecodeLimits) -> set[int]:
    """The classes of one mask."""
    values, size = _read(mask, limits), upright_size(image, limits)
    if values.shape != size:
        raise DatasetError(
            f"{mask} is {values.shape[1]} x {values.shape[0]}, and {image.name} {size[1]} x {size[0]} "
            "upright; give the mask at the size of its image"
        )
    found = set(np.unique(values).tolist())
    unknown = sorted(each for each in found - {LEFT_OUT} if classes is not None and each >= classes)
    if unknown:
        shown = ", ".join(map(str, unknown[:SHOWN])) + (", ..." if len(unknown) > SHOWN else "")
        raise DatasetError(
            f"{mask} has the class {shown}, and the model {classes} (0 to {(classes or 0) - 1}, {LEFT_OUT} "
            "is left out); number classes as the model does"
        )
    return found


def _read(path: Path, limits: DecodeLimits) -> NDArray[np.integer]:
    """Classes (height, width)."""
    opened = open_image(path, limits)
    if opened.image.mode not in _MODES or opened.image.format == "JPEG":
        kind = "a JPEG file" if opened.image.format == "JPEG" else f"a picture of mode {opened.image.mode}"
        raise DatasetError(
            f"{path} is {kind}, no mask; write the index of the class into each pixel, without loss, in "
            "grey or with a palette"
        )
    try:
        return np.asarray(opened.image).astype(np.int64)
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"{path} cannot be decoded, it is damaged or truncated ({error})") from None
