"""The canonical form of a model, written for a target, with parity to the graph it came from checked."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from vit_edge.arrays import Pixels
from vit_edge.errors import DatasetError, ImageError, UsageError
from vit_edge.host.convert.parity import (
    HALF_TOLERANCE,
    REWRITE_TOLERANCE,
    check_integers,
    check_parity,
    random_images,
)
from vit_edge.host.lower.embed import Normalisation
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.ort import Images, Run, runner
from vit_edge.host.rewrite.canonical import Canonical, float_outputs, output_names
from vit_edge.manifest import Parity
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, DecodeLimits
from vit_edge.runtime.image.preprocess import load_pixels, normalize, random_pixels
from vit_edge.spec import FloatType, InputForm, ModelForm, PreprocessSpec

NATURAL_IMAGES = 4  # of those given, on which parity is checked beside the random ones


@dataclasses.dataclass(frozen=True)
class CheckImages:
    """What parity is checked on."""

    size: tuple[int, int]  # pixels (height, width)
    preprocess: PreprocessSpec | None = None  # needed for natural images and for the `pixels` form
    natural: Pixels | None = None  # (N, H, W, 3)


def normalisation_of(preprocess: PreprocessSpec | None) -> Normalisation | None:
    """Mean and standard deviation as arrays; None where the preprocessing is unknown."""
    if preprocess is None:
        return None
    return Normalisation(np.asarray(preprocess.mean, np.float32), np.asarray(preprocess.std, np.float32))


def natural_pixels(
    paths: Sequence[Path],
    preprocess: PreprocessSpec,
    limits: DecodeLimits = DEFAULT_LIMITS,
    count: int = NATURAL_IMAGES,
) -> Pixels:
    """The first `count` images as the model sees them, uint8 (count, H, W, 3).

    Raises:
        DatasetError: an image cannot be decoded.
    """
    rows = []
    for path in paths[:count]:
        try:
            rows.append(load_pixels(path, preprocess, limits))
        except ImageError as error:
            raise DatasetError(f"{error}; repair or remove it") from error  # it names the file
    return np.stack(rows)


def optimized(
    original: onnx.ModelProto, canonical: Canonical, form: ModelForm, images: CheckImages
) -> tuple[onnx.ModelProto, Parity]:
    """Write a canonical model in float32 and check that it still gives the logits of the original.

    Args:
        original: the graph that `canonical` was made from.
        canonical: from `canonicalise`.
        form: the form to write.
        images: what to check on.

    Raises:
        UsageError: the `pixels` form of a model whose preprocessing is unknown.
        ModelError: a form that a model which is not canonical cannot have.
        ParityError: the logits differ.
    """
    if form.input is InputForm.PIXELS and images.preprocess is None:
        raise UsageError(
            f"{canonical.name} does not say how its images are normalised, which the pixels input needs: "
            "pass mean, std, interpolation and crop_pct or resize_mode"
        )
    model = lower(canonical, LowerSettings(form, normalisation_of(images.preprocess)))
    share = HALF_TOLERANCE if form.float_type is FloatType.FLOAT16 else REWRITE_TOLERANCE
    found = []
    for place, name in enumerate(output_names(canonical)):
        reference = runner(original, canonical.name, original.graph.output[place].name)
        other = runner(model, f"the optimized {canonical.name}", name)
        compared = _comparable(reference, other, form, images)
        if name in float_outputs(canonical):
            found.append(check_parity(*compared, share, _step(canonical)))
        else:
            check_integers(*compared, _step(canonical))
    return model, max(found, key=lambda each: each.largest / each.allowed)


def _comparable(reference: Run, other: Run, form: ModelForm, images: CheckImages) -> tuple[Run, Run, Images]:
    """Both forms as functions of the same images, and the images."""
    spec = images.preprocess
    if form.input is InputForm.PIXELS and spec is not None:
        noise = random_pixels(2, images.size)
        pixels = noise if images.natural is None else np.concatenate([noise, images.natural])
        return (lambda given: reference(normalize(given, spec))), other, pixels
    random = random_images(*images.size)
    if images.natural is None or spec is None:
        return reference, other, random
    return reference, other, np.concatenate([random, normalize(images.natural, spec)])


def _step(canonical: Canonical) -> str:
    return f"the optimized {canonical.name} differs from the original"


def image_size(canonical: Canonical) -> tuple[int, int]:
    """Height and width of the image input, in pixels."""
    shape = canonical.model.graph.inputs[0].shape
    _, _, height, width = shape.numpy() if shape is not None else (0, 0, 0, 0)
    return int(height), int(width)
