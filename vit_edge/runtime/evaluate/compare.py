"""Run models over a set of images, each image decoded once, and hand their logits to the gate."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vit_edge.errors import DatasetError, ImageError, ModelError, UsageError
from vit_edge.runtime.evaluate.compatible import (
    check_better_than_guessing,
    check_order,
    common_labels,
    common_preprocess,
)
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.image.decode import decode
from vit_edge.runtime.image.limits import DecodeLimits
from vit_edge.runtime.image.preprocess import to_pixels
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.session import Session, SessionSettings
from vit_edge.spec import PreprocessSpec, Tolerance, Verdict
from vit_edge.verify import Flip, GateReport, SequentialGate, find_flips, judge

LEAST_SEQUENTIAL = 32  # images; fewer could not show that a FAIL comes from classes in another order

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


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Two models on the same images: the verdict, and the logits that it rests on."""

    report: GateReport
    images: ImageSet  # those that were run, in the order of the rows
    available: int  # images there were; more than were run where a sequential comparison stopped early
    labels: tuple[str, ...] | None  # class names in index order, where either model carries them
    float_logits: Logits  # (N, C)
    quant_logits: Logits  # (N, C)

    @property
    def flips(self) -> tuple[Flip, ...]:
        """The images whose prediction changed, with the three likeliest classes of both models."""
        return find_flips(self.float_logits, self.quant_logits)

    def class_name(self, index: int) -> str:
        """The label of a class; its index where the models carry none."""
        return str(index) if self.labels is None else self.labels[index]

    def to_json(self) -> dict[str, Any]:
        """What `vit-edge compare --json` writes: the gate's keys, and more under `evidence`."""
        raw = self.report.to_json()
        raw["evidence"] |= {
            "images_available": self.available,
            "flips": [self._flip_json(flip) for flip in self.flips],
        }
        return raw

    def _flip_json(self, flip: Flip) -> dict[str, Any]:
        targets = self.images.targets
        return {
            "image": self.images.paths[flip.row].as_posix(),
            "label": None if targets is None else self.class_name(int(targets[flip.row])),
            **{
                model: [
                    {"label": self.class_name(each.index), "probability": each.probability} for each in top
                ]
                for model, top in (("float", flip.float_top), ("quant", flip.quant_top))
            },
        }


@dataclasses.dataclass(frozen=True)
class CompareSettings:
    """How the two models of a comparison are run."""

    session: SessionSettings = dataclasses.field(default_factory=SessionSettings)
    batch_size: int = 8
    sequential: bool = False  # images in random order, until they decide
    seed: int = 0  # of that order

    def __post_init__(self) -> None:
        """Refuse what no random generator takes."""
        if self.seed < 0:
            raise UsageError(f"seed must be 0 or more, got {self.seed}")


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
        DatasetError: no image, one that cannot be decoded, or a target outside the classes.
        ModelError: the models differ in their number of classes.
        UsageError: a batch size below 1.
    """
    batches = list(_batches(subjects, images, batch_size, progress))
    return [np.concatenate(rows) for rows in zip(*batches, strict=True)]


def compare(
    float_model: ModelFile,
    quant_model: ModelFile,
    images: ImageSet,
    tolerance: Tolerance,
    settings: CompareSettings | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Run both models on the images and judge the second against the first.

    A model that carries no preprocessing or no labels takes those of the other: quantizers of other makers
    drop them.

    A sequential comparison takes the images in random order and stops once they decide, at the earliest
    after LEAST_SEQUENTIAL of them. Its claim is the same as that of a full one, about the images that the
    folder is a random sample of: a random part of such a sample is one, too.

    Args:
        float_model: the reference.
        quant_model: what is judged.
        images: labelled, or unlabelled for a judgement of agreement alone.
        tolerance: what is accepted.
        settings: how to run them.
        progress: told after each batch.

    Raises:
        DatasetError: no image, one that cannot be decoded, a target outside the classes, or labels that the
            float model cannot tell from chance.
        ModelError: the models' classes differ in number or order, be it by name or by behaviour; or a model
            cannot take the images as the only preprocessing there is makes them.
    """
    settings = settings or CompareSettings()
    names = common_labels(float_model, quant_model)
    specs = [common_preprocess(float_model, quant_model), common_preprocess(quant_model, float_model)]
    subjects = [
        Subject(Session(dataclasses.replace(model, preprocess=spec), settings.session), spec)
        for model, spec in zip((float_model, quant_model), specs, strict=True)
    ]
    seen = _shuffled(images, settings.seed) if settings.sequential else images
    batches = _batches(subjects, seen, settings.batch_size, progress)
    if settings.sequential:
        batches = _until_decided(batches, seen, tolerance)
    float_logits, quant_logits = (np.concatenate(rows) for rows in zip(*batches, strict=True))
    seen = _first(seen, len(float_logits))
    check_better_than_guessing(float_model, seen, float_logits)
    check_order(float_model, quant_model, float_logits, quant_logits)
    report = judge(float_logits, quant_logits, seen.targets, tolerance, names, sequential=settings.sequential)
    return Comparison(report, seen, len(images), names, float_logits, quant_logits)


def _batches(
    subjects: Sequence[Subject], images: ImageSet, batch_size: int, progress: Progress | None
) -> Iterator[list[Logits]]:
    """Of each batch in turn the logits of every subject."""
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}")
    if not len(images):
        raise DatasetError(f"{images.name} holds no image; give at least one")
    specs = list(dict.fromkeys(subject.preprocess for subject in subjects))
    for start in range(0, len(images), batch_size):
        batch = images.paths[start : start + batch_size]
        pixels = _batch_pixels(batch, specs, images.limits)
        logits = [subject.runner.run(pixels[subject.preprocess]) for subject in subjects]
        if start == 0:
            _check_classes([rows.shape[1] for rows in logits], images)
        if progress is not None:
            progress(start + len(batch), len(images))
        yield logits


def _until_decided(
    batches: Iterator[list[Logits]], images: ImageSet, tolerance: Tolerance
) -> Iterator[list[Logits]]:
    gate = SequentialGate(tolerance)
    done = 0
    for logits in batches:
        yield logits
        rows = slice(done, done + len(logits[0]))
        done = rows.stop
        verdict = gate.add(logits[0], logits[1], None if images.targets is None else images.targets[rows])
        if verdict is not Verdict.UNDECIDED and done >= LEAST_SEQUENTIAL:
            return


def _shuffled(images: ImageSet, seed: int) -> ImageSet:
    return _chosen(images, np.random.default_rng(seed).permutation(len(images)))


def _first(images: ImageSet, count: int) -> ImageSet:
    return images if count == len(images) else _chosen(images, np.arange(count))


def _chosen(images: ImageSet, indices: NDArray[np.intp]) -> ImageSet:
    return dataclasses.replace(
        images,
        paths=tuple(images.paths[index] for index in indices),
        targets=None if images.targets is None else images.targets[indices],
    )


def _batch_pixels(
    paths: Sequence[Path], specs: Sequence[PreprocessSpec], limits: DecodeLimits
) -> dict[PreprocessSpec, Pixels]:
    per_spec: dict[PreprocessSpec, list[Pixels]] = {spec: [] for spec in specs}
    for path in paths:
        try:
            image = decode(path, limits)
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
