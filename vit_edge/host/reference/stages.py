"""Where a source's pipeline and ours part on one image file: the first stage whose results differ."""

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from vit_edge.host.reference.types import Pipeline
from vit_edge.runtime.image.decode import decode
from vit_edge.runtime.image.limits import DecodeLimits
from vit_edge.runtime.image.preprocess import load_pixels, normalize
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.session import Session
from vit_edge.source_parity import Stage
from vit_edge.spec import PreprocessSpec

PIXELS = 1.5 / 255  # pixel values, times std, that lie closer count as equal: one grey level and rounding
LOGITS = 1e-3  # share of the largest logit; another kernel of the same arithmetic stays below
_FAR = 3  # pixels that a crop may be shifted by and still be recognised as one
_STRAIGHT = 0.02  # of the spread that a change of mean and std alone leaves unexplained

_ORIENTATION = 0x0112  # EXIF
_UNTURNED = (
    "the source does not turn photos by their EXIF tag, the runtime does; turn such files themselves, or "
    "leave them out"
)

Plane = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Parting:
    """Where two pipelines part, and why, where that is known."""

    stage: Stage
    cause: str = ""


def first_difference(
    pipeline: Pipeline, path: Path, model: ModelFile, spec: PreprocessSpec, limits: DecodeLimits
) -> Parting:
    """Where they part; HEAD where everything up to the logits is the same.

    Args:
        pipeline: the source's.
        path: of an image file on which the answers differ.
        model: the float model file.
        spec: its preprocessing.
        limits: what the image is decoded within.
    """
    mine, other = np.asarray(decode(path, limits)), pipeline.decoded(path)
    if not np.array_equal(other, mine):
        return Parting(Stage.DECODE, _cause_of_decoding(path, mine, other))
    return Parting(_later(pipeline, path, model, spec, limits))


def _cause_of_decoding(path: Path, mine: Pixels, other: Pixels) -> str:
    """What is known of why the same file gives other pixels."""
    with Image.open(path) as image:
        turned, mode = image.getexif().get(_ORIENTATION, 1) != 1, image.mode
        if turned and np.array_equal(other, np.asarray(image.convert("RGB"))):
            return _UNTURNED
    if mode.startswith(("I", "F")):
        return "the source clips grey of more than 8 bits, which is scaled here"
    if mine.shape != other.shape:
        return f"{other.shape[1]}x{other.shape[0]} pixels by the source, {mine.shape[1]}x{mine.shape[0]} here"
    largest = int(np.abs(mine.astype(int) - other.astype(int)).max())
    return f"pixels differ by up to {largest} grey levels"


def _later(
    pipeline: Pipeline, path: Path, model: ModelFile, spec: PreprocessSpec, limits: DecodeLimits
) -> Stage:
    pixels = load_pixels(path, spec, limits)
    ours, theirs = normalize(pixels[None], spec)[0], pipeline.pixel_values(path)
    if ours.shape != theirs.shape:
        return Stage.CROP
    std = np.array(spec.std, np.float32).reshape(3, 1, 1)
    if (np.abs(ours - theirs) * std).max() > PIXELS:
        return _pixel_stage(ours * std, theirs * std)
    logits = Session(model).run(pixels[None])[0]
    expected = pipeline.logits(ours)
    if logits.shape != expected.shape:
        return Stage.HEAD
    allowed = LOGITS * max(1.0, float(np.abs(expected).max()))
    return Stage.WEIGHTS if np.abs(logits - expected).max() > allowed else Stage.HEAD


def _pixel_stage(ours: Plane, theirs: Plane) -> Stage:
    """What turns one picture (3, H, W) into the other: other statistics, a shifted crop, or a resize."""
    if all(_is_straight(mine, other) for mine, other in zip(ours, theirs, strict=True)):
        return Stage.NORMALISE
    shifts = [(down, right) for down in range(-_FAR, _FAR + 1) for right in range(-_FAR, _FAR + 1)]
    if any(_equal_when_shifted(ours, theirs, *shift) for shift in shifts if shift != (0, 0)):
        return Stage.CROP
    return Stage.RESIZE


def _is_straight(ours: Plane, theirs: Plane) -> bool:
    """Whether one is a x + b of the other, to within one grey level or a small share of its spread."""
    x, y = ours.ravel().astype(np.float64), theirs.ravel().astype(np.float64)
    spread = x.std()
    slope = 0.0 if spread == 0 else float(((x - x.mean()) * (y - y.mean())).mean() / spread**2)
    left = y - y.mean() - slope * (x - x.mean())
    return bool(np.sqrt((left**2).mean()) <= max(PIXELS / 3, _STRAIGHT * y.std()) and slope > 0)


def _equal_when_shifted(ours: Plane, theirs: Plane, down: int, right: int) -> bool:
    height, width = ours.shape[1:]
    if height <= 2 * _FAR or width <= 2 * _FAR:
        return False
    inner = theirs[:, _FAR : height - _FAR, _FAR : width - _FAR]
    rows = slice(_FAR + down, height - _FAR + down)
    columns = slice(_FAR + right, width - _FAR + right)
    return bool(np.abs(ours[:, rows, columns] - inner).max() <= PIXELS)
