"""Where a source's pipeline and ours part on one image file: the first stage whose results differ."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

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

Plane = npt.NDArray[np.float32]


def first_difference(
    pipeline: Pipeline, path: Path, model: ModelFile, spec: PreprocessSpec, limits: DecodeLimits
) -> Stage:
    """The stage at which they part; HEAD where everything up to the logits is the same.

    Args:
        pipeline: the source's.
        path: of an image file on which the answers differ.
        model: the float model file.
        spec: its preprocessing.
        limits: what the image is decoded within.
    """
    if not np.array_equal(pipeline.decoded(path), np.asarray(decode(path, limits))):
        return Stage.DECODE
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
