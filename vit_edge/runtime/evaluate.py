"""Run models over a set of images, each image decoded once, and hand their logits to the gate."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vit_edge.errors import DatasetError, ImageError, ModelError, UsageError
from vit_edge.runtime.decode import decode
from vit_edge.runtime.images import ImageSet
from vit_edge.runtime.model import ModelFile
from vit_edge.runtime.preprocess import to_pixels
from vit_edge.runtime.session import Session, SessionSettings
from vit_edge.spec import PreprocessSpec, Tolerance
from vit_edge.verify import GateReport, judge

Pixels = NDArray[np.uint8]
Logits = NDArray[np.float32]


class Runner(Protocol):
    """What turns pixels into logits; a `Session` is one."""

    def run(self, pixels: Pixels) -> Logits:
        """From (N, H, W, 3) uint8 to (N, C) float32."""
        ...


class Progress(Protocol):
    """What is told how far the work has come."""

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` images are finished."""
        ...


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model under evaluation, and the pixels it wants to see."""

    runner: Runner
    preprocess: PreprocessSpec


@dataclasses.dataclass(frozen=True)
class CompareSettings:
    """How the two models of a comparison are run."""

    session: SessionSettings = dataclasses.field(default_factory=SessionSettings)
    batch_size: int = 8


def evaluate(
    subjects: Sequence[Subject], images: ImageSet, batch_size: int = 8, progress: Progress | None = None
) -> list[Logits]:
    """Run every subject on every image, a batch at a time; models of equal preprocessing share their pixels.

    Args:
        subjects: the models, all with the same classes.
        images: what to run them on.
        batch_size: images decoded and run together.
        progress: told after each batch.

    Returns:
        For each subject (N, C) float32, rows in the order of `images.paths`.

    Raises:
        DatasetError: an image cannot be decoded, or a target lies outside the classes.
        ModelError: the models differ in their number of classes.
        UsageError: a batch size below 1.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}")
    specs = list(dict.fromkeys(subject.preprocess for subject in subjects))
    gathered: list[list[Logits]] = [[] for _ in subjects]
    for start in range(0, len(images), batch_size):
        batch = images.paths[start : start + batch_size]
        pixels = _batch_pixels(batch, specs)
        for subject, rows in zip(subjects, gathered, strict=True):
            rows.append(subject.runner.run(pixels[subject.preprocess]))
        if start == 0:
            _check_classes([rows[0].shape[1] for rows in gathered], images)
        if progress is not None:
            progress(start + len(batch), len(images))
    return [np.concatenate(rows) for rows in gathered]


def compare(
    float_model: ModelFile,
    quant_model: ModelFile,
    images: ImageSet,
    tolerance: Tolerance,
    settings: CompareSettings | None = None,
    progress: Progress | None = None,
) -> GateReport:
    """Run both models on the images and judge the second against the first.

    A model that carries no preprocessing or no labels takes those of the other: quantizers of other makers
    drop them.

    Args:
        float_model: the reference.
        quant_model: what is judged.
        images: labelled, or unlabelled for a judgement of agreement alone.
        tolerance: what is accepted.
        settings: how to run them.
        progress: told after each batch.

    Raises:
        DatasetError: an image cannot be decoded, or a target lies outside the classes.
        ModelError: the models' classes differ in number or order, or neither carries preprocessing.
    """
    settings = settings or CompareSettings()
    names = _common_labels(float_model, quant_model)
    subjects = [
        _subject(model, other, settings.session)
        for model, other in ((float_model, quant_model), (quant_model, float_model))
    ]
    float_logits, quant_logits = evaluate(subjects, images, settings.batch_size, progress)
    return judge(float_logits, quant_logits, images.targets, tolerance, names)


def _subject(model: ModelFile, other: ModelFile, settings: SessionSettings) -> Subject:
    preprocess = model.preprocess or other.preprocess
    if preprocess is None:
        raise ModelError(
            f"neither {model.path} nor {other.path} carries its preprocessing; export the model with vit-edge"
        )
    completed = dataclasses.replace(model, preprocess=preprocess)
    return Subject(Session(completed, settings), preprocess)


def _common_labels(float_model: ModelFile, quant_model: ModelFile) -> tuple[str, ...] | None:
    first, second = float_model.labels, quant_model.labels
    if first is None or second is None or first == second:
        return first or second
    where = f"{float_model.path} and {quant_model.path}"
    if len(first) != len(second):
        raise ModelError(
            f"{where} have {len(first)} and {len(second)} classes; compare two forms of one model"
        )
    index = next(i for i, (one, two) in enumerate(zip(first, second, strict=True)) if one != two)
    raise ModelError(
        f"{where} differ in their labels, first in class {index} ({first[index]!r} and {second[index]!r}); "
        "compare two forms of one model"
    )


def _batch_pixels(paths: Sequence[Path], specs: Sequence[PreprocessSpec]) -> dict[PreprocessSpec, Pixels]:
    per_spec: dict[PreprocessSpec, list[Pixels]] = {spec: [] for spec in specs}
    for path in paths:
        try:
            image = decode(path)
            for spec, rows in per_spec.items():
                rows.append(to_pixels(image, spec))
        except ImageError as error:
            raise DatasetError(f"image {path} cannot be used: {error}; repair or remove it") from error
    return {spec: np.stack(rows) for spec, rows in per_spec.items()}


def _check_classes(widths: Sequence[int], images: ImageSet) -> None:
    """Refuse after the first batch what would otherwise be found out after the last."""
    if len(set(widths)) > 1:
        raise ModelError(
            f"the models have {' and '.join(map(str, widths))} classes; compare two forms of one model"
        )
    if images.targets is not None and images.targets.size and images.targets.max() >= widths[0]:
        raise DatasetError(
            f"{images.name} has an image of class {images.targets.max()}, but the model's classes are "
            f"0 to {widths[0] - 1}; label the images with the model's own class indices"
        )
