"""Run models over a set of images, each image decoded once, and hand their logits to the gate."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vit_edge.errors import DatasetError, ImageError, ModelError, UsageError
from vit_edge.gate_report import GateReport
from vit_edge.progress import Step
from vit_edge.runtime.evaluate.compatible import (
    accuracy_notes,
    borrowed,
    check_better_than_guessing,
    check_expected,
    check_order,
    common_kind,
    common_labels,
    common_preprocess,
)
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.evaluate.looks import looks_json
from vit_edge.runtime.evaluate.views import Copies, Viewer, Views, distinct
from vit_edge.runtime.image.decode import decode
from vit_edge.runtime.image.limits import DecodeLimits
from vit_edge.runtime.image.preprocess import to_pixels
from vit_edge.runtime.model.file import ModelFile, check_told
from vit_edge.runtime.session.session import Session, SessionSettings
from vit_edge.spec import OutputKind, PreprocessSpec, Tolerance, Verdict
from vit_edge.verify import Flip, SequentialGate, find_changes, judge_kind
from vit_edge.verify.answers import as_logits
from vit_edge.verify.copies import SceneFinder, unseen_limit
from vit_edge.verify.looks import Looked, LookPlace, place_look
from vit_edge.verify.metrics import log_softmax

LEAST_SEQUENTIAL = 32  # images; fewer could not show that a FAIL comes from classes in another order

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
    output: OutputKind = OutputKind.SINGLE_LABEL  # what the runner's numbers mean
    file: ModelFile | None = None  # where it comes from, if its numbers may be mistaken


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Two models on the same images: the verdict, and the logits that it rests on."""

    report: GateReport
    images: ImageSet  # those that were run, in the order of the rows
    available: int  # images there were; more than were run where a sequential comparison stopped early
    labels: tuple[str, ...] | None  # class names in index order, where either model carries them
    float_logits: Logits  # (N, C)
    quant_logits: Logits  # (N, C)
    copies: Copies | None = None  # among all images that were run; None where nobody looked for them
    place: LookPlace | None = None  # among all looks at these models
    history: tuple[Looked, ...] = ()  # looks at these models, this one the last or as it was before
    stopped: bool = False  # images came in random order until they decided
    models: tuple[ModelFile, ModelFile] | None = None  # float and quantized
    notes: tuple[str, ...] = ()  # on the float model itself
    kind: OutputKind = OutputKind.SINGLE_LABEL  # the task of both models

    @property
    def pair(self) -> tuple[str, str]:
        """SHA-256 of both models; empty texts where they are no files."""
        return ("", "") if self.models is None else (self.models[0].sha256, self.models[1].sha256)

    @property
    def flips(self) -> tuple[Flip, ...]:
        """The images whose prediction changed, with the three likeliest classes of both models."""
        return find_changes(self.kind, self.float_logits, self.quant_logits)

    def class_name(self, index: int) -> str:
        """The label of a class; its index where the models carry none."""
        return str(index) if self.labels is None else self.labels[index]

    def truth(self, row: int) -> str | None:
        """What is true of an image: its class, or its labels; None where that is not known."""
        targets = self.images.targets
        if targets is None:
            return None
        if self.kind.task is OutputKind.SINGLE_LABEL:
            return self.class_name(int(targets[row]))
        if self.kind is OutputKind.MULTI_LABEL:
            return "; ".join(self.class_name(int(index)) for index in np.flatnonzero(targets[row]))
        return "; ".join(f"{value:g}" for value in targets[row])

    def to_json(self) -> dict[str, Any]:
        """What `vit-edge compare --json` writes: the gate's keys, and more under `evidence`."""
        raw = self.report.to_json()
        raw["evidence"] |= {
            "images_available": self.available,
            "flips": [self._flip_json(flip) for flip in self.flips],
            "copies": None if self.copies is None else self.copies.to_json(),
            "look": None if self.place is None else dataclasses.asdict(self.place),
            "notes": list(self.notes),
            "history": looks_json(self.pair, self.history),
            "models": None if self.models is None else [_named(model) for model in self.models],
        }
        return raw

    def _flip_json(self, flip: Flip) -> dict[str, Any]:
        return {
            "image": self.images.paths[flip.row].as_posix(),
            "label": self.truth(flip.row),
            **{
                model: [
                    {"label": self.class_name(each.index), "probability": each.probability} for each in top
                ]
                for model, top in (("float", flip.float_top), ("quant", flip.quant_top))
            },
        }


def _named(model: ModelFile) -> dict[str, str]:
    return {"path": model.path.as_posix(), "sha256": model.sha256}


@dataclasses.dataclass(frozen=True)
class CompareSettings:
    """How the two models of a comparison are run."""

    session: SessionSettings = dataclasses.field(default_factory=SessionSettings)
    batch_size: int = 8
    sequential: bool = False  # images in random order, until they decide
    seed: int = 0  # of that order
    independent: bool = False  # the images are independent of one another, however alike: group none
    earlier: tuple[Looked, ...] = ()  # looks at this pair of models, the oldest first
    expect_top1: float | None = None  # percent that the float model must reach
    stated_top1: float | None = None  # percent that its card or manifest states

    def __post_init__(self) -> None:
        """Refuse what no random generator takes."""
        if self.seed < 0:
            raise UsageError(f"seed must be 0 or more, got {self.seed}")
        if self.expect_top1 is not None and not 0 < self.expect_top1 <= 100:
            raise UsageError(f"expect_top1 must be above 0 and at most 100 percent, got {self.expect_top1}")


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
    batches = [logits for logits, _ in _batches(subjects, images, batch_size, progress, viewer or Viewer())]
    return [np.concatenate(rows) for rows in zip(*batches, strict=True)]


def compare(
    float_model: ModelFile,
    quant_model: ModelFile,
    images: ImageSet,
    tolerance: Tolerance,
    settings: CompareSettings | None = None,
    progress: Step | None = None,
) -> Comparison:
    """Run both models on the images and judge the second against the first.

    A model that carries no preprocessing or no labels takes those of the other: quantizers of other makers
    drop them.

    Images that are the same to the models are counted once, and those that show one scene count as one
    together (see `verify.copies`), unless they are said to be independent. Images that an earlier look has
    seen call for intervals that hold however often one looks (see `verify.looks`).

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
    kind = common_kind(float_model, quant_model)
    if kind is not OutputKind.SINGLE_LABEL and settings.sequential:
        raise UsageError("--sequential judges models of single labels only; leave it out")
    names = common_labels(float_model, quant_model)
    specs = [common_preprocess(float_model, quant_model), common_preprocess(quant_model, float_model)]
    subjects = [
        Subject(
            Session(dataclasses.replace(model, preprocess=spec), settings.session), spec, model.output, model
        )
        for model, spec in zip((float_model, quant_model), specs, strict=True)
    ]
    viewer = Viewer()
    if settings.sequential:
        seen, known, place = _shuffled(images, settings.seed), 0, None
        if settings.earlier:  # the place must be known before the first batch, as it sets the intervals
            digests = _digests(subjects, seen)
            place = place_look(settings.earlier, frozenset(digests))
            looked_at = set[str]().union(*settings.earlier)
            # what was looked at comes first, so that every look holds those before it
            seen = seen.chosen(np.argsort([digest not in looked_at for digest in digests], kind="stable"))
            known = sum(digest in looked_at for digest in digests)
        allowed = tolerance if place is None else _allowing(place, tolerance)
        batches = _batches(subjects, seen, settings.batch_size, progress, viewer)
        rows, logits = _until_decided(batches, seen, allowed, settings.independent, known)
        kept = distinct(seen.first(len(logits[0])), viewer.views(), logits[0], apart=settings.independent)
        scenes = None  # of each scene only the first image was counted
    else:
        seen = images
        logits = evaluate(subjects, images, settings.batch_size, progress, viewer)
        kept = distinct(images, viewer.views(), logits[0], apart=settings.independent)
        rows, scenes = kept.rows, kept.scenes
        place = place_look(settings.earlier, frozenset(viewer.views().digests))
    float_logits, quant_logits = (each[rows] for each in logits)
    seen = seen.chosen(rows)
    notes = borrowed(float_model, quant_model)
    if kind is OutputKind.SINGLE_LABEL:
        if float_model.output is not quant_model.output:  # what softmax ignores is another in each
            float_logits, quant_logits = (
                log_softmax(each).astype(np.float32) for each in (float_logits, quant_logits)
            )
        check_better_than_guessing(float_model, seen, float_logits)
        check_expected(float_model, seen, float_logits, settings.expect_top1)
        check_order(float_model, quant_model, float_logits, quant_logits)
        notes += accuracy_notes(seen, float_logits, settings.stated_top1)
    elif settings.expect_top1 is not None:
        raise UsageError("--expect-top1 is about models of single labels only; leave it out")
    looked = frozenset(viewer.views().digests)
    place = place or place_look(settings.earlier, looked)
    report = judge_kind(
        kind,
        float_logits,
        quant_logits,
        seen.targets,
        _allowing(place, tolerance),
        names,
        sequential=settings.sequential or place.again,
        scenes=scenes,
    )
    history = tuple(dict.fromkeys([*settings.earlier, looked]))
    return Comparison(
        report,
        seen,
        len(images),
        names,
        float_logits,
        quant_logits,
        kept.copies,
        place,
        history,
        settings.sequential,
        (float_model, quant_model),
        notes,
        kind,
    )


def _allowing(place: LookPlace, tolerance: Tolerance) -> Tolerance:
    return dataclasses.replace(tolerance, confidence=place.confidence(tolerance.confidence))


def _batches(
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
        pixels = _batch_pixels(batch, specs, images.limits)
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


def _digests(subjects: Sequence[Subject], images: ImageSet) -> tuple[str, ...]:
    """Of all images, without running a model."""
    specs = list(dict.fromkeys(subject.preprocess for subject in subjects))
    viewer = Viewer()
    for path in images.paths:
        viewer.add(_batch_pixels([path], specs, images.limits))
    return viewer.views().digests


def _until_decided(
    batches: Iterator[tuple[list[Logits], Views]],
    images: ImageSet,
    tolerance: Tolerance,
    independent: bool,
    known_images: int,
) -> tuple[NDArray[np.intp], list[Logits]]:
    """The rows that count, which begin a scene, and the logits of all that were run."""
    gate, finder, known = SequentialGate(tolerance), None, set[str]()
    counted: list[int] = []
    parts: list[list[Logits]] = []
    done = 0
    for logits, views in batches:
        parts.append(logits)
        new = np.array([_is_new(digest, known) for digest in views.digests])
        finder = finder or SceneFinder(unseen_limit(logits[0].shape[1]))
        begins = finder.add(views.thumbnails, logits[0])
        chosen = np.flatnonzero(new if independent else new & begins)
        rows = done + chosen
        done += len(new)
        counted += rows.tolist()
        if not len(rows):
            continue
        targets = None if images.targets is None else images.targets[rows]
        verdict = gate.add(logits[0][chosen], logits[1][chosen], targets)
        enough = len(counted) >= LEAST_SEQUENTIAL and done >= known_images
        if verdict is not Verdict.UNDECIDED and enough:
            break
    return np.array(counted, np.intp), [np.concatenate(rows) for rows in zip(*parts, strict=True)]


def _is_new(digest: str, known: set[str]) -> bool:
    """Whether it was not known; it is from now on."""
    new = digest not in known
    known.add(digest)
    return new


def _shuffled(images: ImageSet, seed: int) -> ImageSet:
    return images.chosen(np.random.default_rng(seed).permutation(len(images)))


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
