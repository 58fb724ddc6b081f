"""What models answer to a set of images, each image decoded once for all of them."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vit_edge.errors import DatasetError, ImageError, ModelError, UsageError
from vit_edge.progress import Step
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.evaluate.views import Viewer, Views, views_of
from vit_edge.runtime.image.decode import decode
from vit_edge.runtime.image.limits import DecodeLimits
from vit_edge.runtime.image.preprocess import to_pixels
from vit_edge.runtime.model.file import ModelFile, check_told
from vit_edge.spec import OutputKind, PreprocessSpec
from vit_edge.verify.answers import as_logits

Pixels = NDArray[np.uint8]
Logits = NDArray[np.float32]


class Runner(Protocol):
    """What turns pixels into logits; a `Session` is one."""

    def run(self, pixels: Pixels) -> Logits:
        """From (N, H, W, 3) uint8 to (N, C) float32."""
        ...


@dataclasses.dataclass(frozen=True)
class Meaning:
    """What a model's numbers mean."""

    output: OutputKind
    file: ModelFile | None = None  # where they come from, if they may be mistaken


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model under evaluation, and the pixels it wants to see."""

    runner: Runner
    preprocess: PreprocessSpec
    output: OutputKind = OutputKind.SINGLE_LABEL
    """What the runner's numbers mean."""


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """What models give for a batch of images, and what it looks like to them."""

    values: tuple[Logits, ...]  # of each model (N, C), as it gives them
    views: Views


def see(subjects: Sequence[Subject], limits: DecodeLimits, paths: Sequence[str] | Sequence[Path]) -> Seen:
    """Decode a batch of image files once and run every subject on it.

    Raises:
        DatasetError: an image that cannot be decoded.
    """
    specs = list(dict.fromkeys(subject.preprocess for subject in subjects))
    pixels = batch_pixels([Path(path) for path in paths], specs, limits)
    values = tuple(subject.runner.run(pixels[subject.preprocess]) for subject in subjects)
    return Seen(values, views_of(pixels))


def evaluate(
    subjects: Sequence[Subject],
    images: ImageSet,
    batch_size: int = 8,
    progress: Step | None = None,
    viewer: Viewer | None = None,
) -> list[Logits]:
    """Run every subject on every image, a batch at a time; models of equal preprocessing share their pixels.

    Args:
        subjects: the models, all with the same classes.
        images: what to run them on.
        batch_size: images decoded and run together.
        progress: told after each batch.
        viewer: keeps what the models saw.

    Returns:
        For each subject (N, C) float32, rows in the order of `images.paths`.

    Raises:
        DatasetError: no image, one that cannot be decoded, or a target outside the classes.
        ModelError: the models differ in their number of classes.
        UsageError: a batch size below 1.
    """
    seen = (see(subjects, images.limits, batch) for batch in batches_of(images, batch_size))
    meanings = [Meaning(subject.output) for subject in subjects]
    return joined(explained(meanings, images, seen, progress, viewer or Viewer()))


def joined(batches: Iterable[tuple[list[Logits], Views]]) -> list[Logits]:
    """Of each model the logits (N, C) of all images."""
    return [np.concatenate(rows) for rows in zip(*(logits for logits, _ in batches), strict=True)]


def explained(
    meanings: Sequence[Meaning],
    images: ImageSet,
    seen: Iterable[Seen],
    progress: Step | None,
    viewer: Viewer,
) -> Iterator[tuple[list[Logits], Views]]:
    """Of each batch in turn the logits of every model, and what it looks like.

    Args:
        meanings: of the models' numbers.
        images: in the order of the batches.
        seen: what models give for each batch, whoever ran them.
        progress: told after each batch.
        viewer: keeps what the models saw.

    Raises:
        DatasetError: a target outside the classes.
        ModelError: the models differ in their number of classes, or numbers are not what is said of them.
    """
    done = 0
    for batch in seen:
        logits = [as_logits(each.output, rows) for each, rows in zip(meanings, batch.values, strict=True)]
        if not done:
            for each, rows in zip(meanings, batch.values, strict=True):
                if each.file is not None:
                    check_told(each.file, rows)
            _check_classes([rows.shape[1] for rows in logits], images)
        viewer.keep(batch.views)
        done += len(batch.views.digests)
        if progress is not None:
            progress(done, len(images))
        yield logits, batch.views


def batches_of(images: ImageSet, size: int) -> list[tuple[Path, ...]]:
    """The images in their order, `size` at a time.

    Raises:
        UsageError: a size below 1.
        DatasetError: no image.
    """
    if size < 1:
        raise UsageError(f"batch_size must be at least 1, got {size}")
    if not len(images):
        raise DatasetError(f"{images.name} holds no image; give at least one")
    return [images.paths[start : start + size] for start in range(0, len(images), size)]


def batch_pixels(
    paths: Sequence[Path], specs: Sequence[PreprocessSpec], limits: DecodeLimits
) -> dict[PreprocessSpec, Pixels]:
    """The pixels (N, H, W, 3) of images by each way of preprocessing; each image is decoded once.

    Raises:
        DatasetError: an image that cannot be decoded.
    """
    per_spec: dict[PreprocessSpec, list[Pixels]] = {spec: [] for spec in specs}
    for path in paths:
        try:
            image = decode(path, limits)
            for spec, rows in per_spec.items():
                rows.append(to_pixels(image, spec))
        except ImageError as error:
            raise DatasetError(f"{_naming(path, error)}; repair or remove it") from error
    return {spec: np.stack(rows) for spec, rows in per_spec.items()}


def _naming(path: Path, error: ImageError) -> str:
    """What is wrong with an image, and its name once."""
    return str(error) if str(path) in str(error) else f"{path}: {error}"


def _check_classes(widths: Sequence[int], images: ImageSet) -> None:
    """Refuse after the first batch what would otherwise be found out after the last."""
    if len(set(widths)) > 1:
        raise ModelError(
            f"the models have {' and '.join(map(str, widths))} classes; compare two forms of one model"
        )
    targets = images.targets
    if targets is not None and targets.ndim == 2:
        if targets.shape[1] != widths[0]:
            raise DatasetError(
                f"{images.name} has {targets.shape[1]} labels or values per image, the model {widths[0]}; "
                "label the images with the model's own"
            )
        return
    if images.targets is not None and images.targets.size and images.targets.max() >= widths[0]:
        raise DatasetError(
            f"{images.name} has an image of class {images.targets.max()}, but the model's classes are "
            f"0 to {widths[0] - 1}; label the images with the model's own class indices"
        )
