"""Quantization of a canonical ViT, from calibration images to a plan."""

from collections.abc import Sequence
from pathlib import Path

from vit_edge.host.quantize.search import Search
from vit_edge.host.quantize.types import Progress, Quantization, QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.spec import PreprocessSpec


def quantize(
    canonical: Canonical,
    images: Sequence[Path],
    preprocess: PreprocessSpec,
    settings: QuantizeSettings,
    progress: Progress | None = None,
) -> Quantization:
    """Decide ranges, weights and the form of every layer from calibration images.

    The model itself is changed by exact folds (in place), so that it must be lowered after this call. A
    `Search` answers more than one such question about a model.

    Args:
        canonical: the float model.
        images: calibration images; those used are spread evenly over them.
        preprocess: from image to model input, as at run time.
        settings: preset and number of images.
        progress: called with (what, done, count).

    Raises:
        ModelError: the model has no linear layer, or there is no image.
        ImageError: an image cannot be read.
        UsageError: the cache folder cannot be written.
    """
    return Search(canonical, images, preprocess, settings, progress).first()
