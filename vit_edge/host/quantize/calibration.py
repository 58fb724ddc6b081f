"""From calibration images to what is known of every activation, and to the model folded by it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from vit_edge.arrays import Float32, Pixels
from vit_edge.errors import ModelError
from vit_edge.host.lower.model import LowerSettings
from vit_edge.host.quantize.balance import balance
from vit_edge.host.quantize.observe import observer_of
from vit_edge.host.quantize.outliers import split_outliers
from vit_edge.host.quantize.passes import Reader, observed
from vit_edge.host.quantize.probe import Probe
from vit_edge.host.quantize.tally import Activation
from vit_edge.host.quantize.types import QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.merging import Frames
from vit_edge.manifest import Fold, OutlierChannels
from vit_edge.progress import Progress, step_of
from vit_edge.runtime.evaluate.dataset import evenly
from vit_edge.spec import PreprocessSpec

PROBE_IMAGES = 24  # images on which the noise of single layers is measured
CORRECTION_IMAGES = 64  # images over which the mean error of each layer is taken


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What the calibration images tell about the activations of a float model."""

    seen: Mapping[str, Activation]
    """By tap: the input of each linear layer, the operands and probabilities of each attention."""
    images: tuple[Path, ...]
    """Those that were used."""
    probed: tuple[Pixels, ...]
    """uint8 (H, W, 3) each, on which noise is measured."""
    corrected: tuple[Pixels, ...]
    """Over which biases are corrected; others than those probed, where there are enough."""
    reference: tuple[Float32, ...]
    """What the float model, not folded, gives for those probed: logits (N, classes)."""
    lowering: LowerSettings
    """The form in which the model is run: batch 1, `pixels`."""


@dataclasses.dataclass(frozen=True)
class Folded:
    """A model whose channels were evened out and parted, exactly, and its activations as they are now."""

    canonical: Canonical
    calibration: Calibration
    folds: tuple[Fold, ...]
    outliers: tuple[OutlierChannels, ...]
    frames: Frames
    """What the keys of each attention were, for who asks which tokens are alike."""


def calibrate(
    canonical: Canonical,
    images: Sequence[Path],
    preprocess: PreprocessSpec,
    settings: QuantizeSettings,
    progress: Progress | None = None,
) -> Calibration:
    """One pass of images through the float model, or what a finished one left in the cache.

    Args:
        canonical: the float model.
        images: calibration images; those used are spread evenly over them.
        preprocess: from image to model input, as at run time.
        settings: number of images, cache and limits.
        progress: called with (what, done, count).

    Raises:
        ModelError: the model has no linear layer, an activation is not finite, or there is no image.
        ImageError: an image cannot be read.
        UsageError: the cache folder cannot be written.
    """
    observer = observer_of(canonical, preprocess)
    used = _spread(images, settings.images)
    probed = _spread(used, PROBE_IMAGES)
    others = [path for path in used if path not in set(probed)] or used
    corrected = _spread(others, CORRECTION_IMAGES)
    read = Reader(preprocess, {*probed, *corrected}, settings.limits)
    seen = observed(observer, used, read, settings.cache, step_of(progress, "calibrate"), settings.spread)
    pixels = tuple(read(path) for path in probed)
    reference = Probe(canonical, observer.settings, pixels).reference
    corrected_pixels = tuple(read(path) for path in corrected)
    return Calibration(seen, tuple(used), pixels, corrected_pixels, tuple(reference), observer.settings)


def fold(canonical: Canonical, calibration: Calibration) -> Folded:
    """A copy of the model with its channels evened out, outliers apart, and the calibration of that copy."""
    copy = dataclasses.replace(canonical, model=canonical.model.clone())
    seen = dict(calibration.seen)
    balanced = balance(copy.model.graph, seen)
    outliers = split_outliers(copy.model.graph, seen)
    known = dataclasses.replace(calibration, seen=seen)
    return Folded(copy, known, tuple(balanced.folds), tuple(outliers), balanced.frames)


def _spread(images: Sequence[Path], count: int) -> list[Path]:
    """At most `count` of the images, evenly spread."""
    if not images:
        raise ModelError("calibration needs at least one image")
    return list(evenly(images, count))
