"""Runs a model in the stated way and in others on the same images, each image decoded once."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vit_edge.arrays import Array, Float32, Pixels
from vit_edge.errors import DatasetError, ModelError
from vit_edge.progress import Step
from vit_edge.runtime.doctor.variants import Variant
from vit_edge.runtime.evaluate.answers import batch_pixels
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.evaluate.views import Viewer, distinct, views_of
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.session import Session, SessionSettings
from vit_edge.spec import PreprocessSpec
from vit_edge.verify.answers import as_logits

SMALL = 16  # pixels of a side that the linear model sees
KEPT = 16  # images whose pixels are kept for what takes few of them
_BATCH = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Rival:
    """Another model file of the same classes, which the host has made to be compared."""

    variant: Variant
    model: ModelFile


@dataclasses.dataclass(frozen=True, eq=False)
class Runs:
    """What a model gives for N distinct images."""

    images: ImageSet
    values: Float32
    """(N, C) numbers as they come out of the file."""
    logits: Float32
    """(N, C) as `as_logits` reads them."""
    tried: Mapping[Variant, Float32]
    """Logits of the other ways; one that the model cannot run, or that changes no pixel, is left out."""
    small: NDArray[np.uint8]
    """(N, SMALL, SMALL, 3)."""
    pixels: Pixels
    """(at most KEPT, H, W, 3), of the first images."""


class Runner:
    """A session that takes batches of any size in any way of making them."""

    def __init__(self, model: ModelFile, session: SessionSettings) -> None:
        self.model, self.session = model, Session(model, session)

    def values(self, pixels: Pixels, variant: Variant) -> Float32:
        """(N, C) numbers of the file."""
        size = self.model.batch or len(pixels)
        padded = np.concatenate([pixels, np.repeat(pixels[-1:], -len(pixels) % size, axis=0)])
        rows = [
            self.session.run_feed(variant.feed(self.model, padded[start : start + size]))
            for start in range(0, len(padded), size)
        ]
        return np.concatenate(rows)[: len(pixels)]

    def logits(self, pixels: Pixels, variant: Variant) -> Float32:
        """The same as logits."""
        return as_logits(self.model.output, self.values(pixels, variant))


def run_all(
    runner: Runner,
    stated: Variant,
    variants: Sequence[Variant],
    rivals: Sequence[Rival],
    images: ImageSet,
    progress: Step,
) -> Runs:
    """Run the stated way, the variants and the rivals; copies of an image are counted once.

    Raises:
        DatasetError: no image, or one that cannot be decoded.
        ModelError: the model fails in the stated way.
    """
    if not len(images):
        raise DatasetError(f"{images.name} holds no image; give at least one")
    others = _Others(stated, runner, variants, rivals)
    viewer = Viewer()
    values, small, kept = [], [], []
    for start in range(0, len(images), _BATCH):
        made = batch_pixels(images.paths[start : start + _BATCH], others.specs, images.limits)
        pixels = made[stated.spec]
        viewer.keep(views_of({stated.spec: pixels}))
        values.append(runner.values(pixels, stated))
        others.add(made, as_logits(runner.model.output, values[-1]))
        small += [_small(each) for each in pixels]
        kept += list(pixels) if start < KEPT else []
        progress(min(start + _BATCH, len(images)), len(images))
    numbers = np.concatenate(values)
    logits = as_logits(runner.model.output, numbers)
    chosen = distinct(images, viewer.views(), logits, apart=True).rows
    tried = {variant: found[chosen] for variant, found in others.logits().items()}
    thumbnails, first = np.stack(small)[chosen], np.stack(kept)
    return Runs(images.chosen(chosen), numbers[chosen], logits[chosen], tried, thumbnails, first)


class _Others:
    """Grows by the logits of all other ways, batch by batch."""

    def __init__(
        self, stated: Variant, runner: Runner, variants: Sequence[Variant], rivals: Sequence[Rival]
    ) -> None:
        self.stated, self.runner = stated, runner
        self.runners = dict.fromkeys(variants, runner)
        self.runners |= {each.variant: Runner(each.model, runner.session.settings) for each in rivals}
        self.geometry = {variant: _geometry(variant.spec, stated.spec) for variant in self.runners}
        self.specs = list(dict.fromkeys([stated.spec, *self.geometry.values()]))
        self.rows: dict[Variant, list[Float32]] = {variant: [] for variant in self.runners}
        self.changing = {each for each, other in self.runners.items() if self._told_apart(each, other)}

    def add(self, made: Mapping[PreprocessSpec, Pixels], own: Float32) -> None:
        """Run a batch, whose pixels were made in every way; `own` are the logits of the stated way."""
        pixels = made[self.stated.spec]
        for variant, other in list(self.runners.items()):
            given = made[self.geometry[variant]]
            differs = given.shape != pixels.shape or not np.array_equal(given, pixels)
            if not differs and not self._told_apart(variant, other):
                self.rows[variant].append(own)
                continue
            self.changing.add(variant)
            try:
                self.rows[variant].append(other.logits(given, variant))
            except ModelError:  # a size that the graph cannot take, or numbers that overflow
                del self.runners[variant]

    def logits(self) -> dict[Variant, Float32]:
        """Of those that could be run, and that change what the model is given."""
        return {each: np.concatenate(self.rows[each]) for each in self.runners if each in self.changing}

    def _told_apart(self, variant: Variant, other: Runner) -> bool:
        """Whether a way differs from the stated one whatever the pixels are."""
        stated = self.stated
        numbers = (variant.spec.mean, variant.spec.std) != (stated.spec.mean, stated.spec.std)
        laid = (variant.reversed_colours, variant.layout) != (stated.reversed_colours, stated.layout)
        return other is not self.runner or numbers or laid


def _geometry(spec: PreprocessSpec, stated: PreprocessSpec) -> PreprocessSpec:
    """What makes the same pixels, whatever they are normalised with: so each are made once."""
    return dataclasses.replace(spec, mean=stated.mean, std=stated.std)


def _small(image: Pixels) -> Array:
    return np.asarray(Image.fromarray(image).resize((SMALL, SMALL), Image.Resampling.BOX))
