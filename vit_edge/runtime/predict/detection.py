"""What a detector says of one image: boxes on the pixels of that image."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from vit_edge.errors import UsageError
from vit_edge.verify.boxes import read_boxes

Floats = npt.NDArray[np.float32]
Corners = tuple[float, float, float, float]

_TEXT = 12  # pixels
_COLOURS = ((230, 25, 75), (60, 180, 75), (0, 130, 200), (245, 130, 48), (145, 30, 180), (0, 128, 128))


@dataclasses.dataclass(frozen=True)
class Detection:
    """One object."""

    label: str
    """Of its class; its index where the file has no labels."""
    index: int
    """Of the class."""
    score: float
    """Probability of the class, 0 to 1."""
    box: Corners
    """(left, top, right, bottom) in pixels of the upright image, within it."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where on an image the model looked."""

    size: tuple[int, int]  # pixels (height, width) of the upright image
    seen: Corners  # of it, may reach beyond it


def detections(
    logits: Floats, boxes: Floats, place: Place, labels: Sequence[str] | None, threshold: float
) -> tuple[Detection, ...]:
    """The objects of one image, the surest first, see `verify.boxes`; no box is suppressed for another.

    Args:
        logits: (Q, classes + 1).
        boxes: (Q, 4), centre x and y, width and height in shares of what the model saw.
        place: what that was.
        labels: names of the classes.
        threshold: the least probability.
    """
    read = read_boxes(logits, boxes)
    classes, scores, corners = read.classes, read.scores, in_pixels(read.corners, place)
    whole = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
    kept = np.flatnonzero((scores >= threshold) & whole)
    ordered = kept[np.argsort(-scores[kept], kind="stable")]
    return tuple(
        Detection(
            str(classes[row]) if labels is None else labels[classes[row]],
            int(classes[row]),
            float(scores[row]),
            _four(corners[row]),
        )
        for row in ordered
    )


def in_pixels(shares: npt.NDArray[np.float64], place: Place) -> npt.NDArray[np.float64]:
    """(Q, 4) left, top, right, bottom in pixels, cut to the image."""
    left, top, right, bottom = place.seen
    scale, start = np.asarray([right - left, bottom - top] * 2), np.asarray([left, top] * 2)
    height, width = place.size
    limits: npt.NDArray[np.float64] = np.clip(shares * scale + start, 0, np.asarray([width, height] * 2))
    return limits


def _four(row: npt.NDArray[np.float64]) -> Corners:
    left, top, right, bottom = (float(each) for each in row)
    return left, top, right, bottom


def drawn(image: Image.Image, found: Sequence[Detection]) -> Image.Image:
    """A copy of an image with its boxes, the surest on top, each with class and score.

    Args:
        image: the upright image that was searched.
        found: what `Detector` gave for it.

    Raises:
        UsageError: a box lies beyond the image, which is another one then.
    """
    if any(each.box[2] > image.width or each.box[3] > image.height for each in found):
        raise UsageError(f"a box lies beyond the {image.height} x {image.width} pixels of the image")
    made = image.convert("RGB")
    pen, font = ImageDraw.Draw(made), ImageFont.load_default(_TEXT)
    for each in reversed(found):
        colour = _COLOURS[each.index % len(_COLOURS)]
        pen.rectangle(each.box, outline=colour, width=2)
        text = f"{each.label} {each.score:.2f}"
        area = pen.textbbox((each.box[0] + 2, max(each.box[1] - _TEXT - 4, 0)), text, font=font)
        pen.rectangle((area[0] - 2, area[1] - 1, area[2] + 2, area[3] + 1), fill=colour)
        pen.text((area[0], max(each.box[1] - _TEXT - 4, 0)), text, fill=(255, 255, 255), font=font)
    return made
