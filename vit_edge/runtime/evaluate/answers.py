"""What models answer to a set of images, each image decoded once for all of them."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vit_edge.errors import DatasetError, ImageError, ModelError, UsageError
from vit_edge.progress import Step
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.evaluate.views import Viewer, Views
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
class Subject:
    """A model under evaluation, and the pixels it wants to see."""

    runner: Runner
    preprocess: PreprocessSpec
    output: OutputKind = OutputKind.SINGLE_LABEL
    """What the runner's numbers mean."""
    file: ModelFile | None = None
    """Where it comes from, if its numbers may be mistaken."""


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
    batches = [logits for logits, _ in in_batches(subjects, images, batch_size, progress, viewer or Viewer())]
    return [np.concatenate(rows) for rows in zip(*batches, strict=True)]


def in_batches(
    subjects: Sequence[Subject],
    images: ImageSet,
    batch_size: int,
    progress: Step | None,
    viewer: Viewer,
) -> Iterator[tuple[list[Logits], Views]]:
    """Of each batch in turn the logits of every subject, and what it looks like."""
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}")
    if not len(images):
        raise DatasetError(f"{images.name} holds no image; give at least one")
    specs = list(dict.fromkeys(subject.preprocess for subject in subjects))
    for start in range(0, len(images), batch_size):
        batch = images.paths[start : start + batch_size]
        pixels = batch_pixels(batch, specs, images.limits)
        values = [subject.runner.run(pixels[subject.preprocess]) for subject in subjects]
        logits = [as_logits(subject.output, rows) for subject, rows in zip(subjects, values, strict=True)]
        if start == 0:
            for subject, rows in zip(subjects, values, strict=True):
                if subject.file is not None:
                    check_told(subject.file, rows)
            _check_classes([rows.shape[1] for rows in logits], images)
        views = viewer.add(pixels)
        if progress is not None:
            progress(start + len(batch), len(images))
        yield logits, views


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
