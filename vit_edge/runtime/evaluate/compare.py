"""Two forms of one model on the same images, from the checks before to the gate's report."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vit_edge.errors import UsageError
from vit_edge.progress import Step
from vit_edge.runtime.evaluate.answers import (
    Logits,
    Meaning,
    Seen,
    Subject,
    batch_pixels,
    explained,
    joined,
    see,
)
from vit_edge.runtime.evaluate.compare_maps import compare_maps
from vit_edge.runtime.evaluate.comparison import Comparison
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
from vit_edge.runtime.evaluate.elsewhere import runs
from vit_edge.runtime.evaluate.settings import CompareSettings
from vit_edge.runtime.evaluate.views import Viewer, Views, distinct, views_of
from vit_edge.runtime.image.limits import DecodeLimits
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.session import Session, SessionSettings
from vit_edge.runtime.spread.task import Chunk
from vit_edge.spec import OutputKind, PreprocessSpec, Tolerance, Verdict
from vit_edge.verify import SequentialGate, judge_kind
from vit_edge.verify.copies import SceneFinder, unseen_limit
from vit_edge.verify.looks import LookPlace, place_look
from vit_edge.verify.metrics import log_softmax

LEAST_SEQUENTIAL = 32  # images; fewer could not show that a FAIL comes from classes in another order


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
    if kind is OutputKind.MAP:
        return compare_maps(float_model, quant_model, images, tolerance, settings, progress)
    names = common_labels(float_model, quant_model)
    specs = [common_preprocess(float_model, quant_model), common_preprocess(quant_model, float_model)]
    models = [
        dataclasses.replace(model, preprocess=spec)
        for model, spec in zip((float_model, quant_model), specs, strict=True)
    ]
    both = runs(models, settings.session, images.limits, _opened, settings.spread)
    meanings = [Meaning(model.output, model) for model in (float_model, quant_model)]
    viewer = Viewer()
    if settings.sequential:
        seen, known, place = _shuffled(images, settings.seed), 0, None
        if settings.earlier:  # the place must be known before the first batch, as it sets the intervals
            digests = _digests(specs, seen)
            place = place_look(settings.earlier, frozenset(digests))
            looked_at = set[str]().union(*settings.earlier)
            # what was looked at comes first, so that every look holds those before it
            seen = seen.chosen(np.argsort([digest not in looked_at for digest in digests], kind="stable"))
            known = sum(digest in looked_at for digest in digests)
        allowed = tolerance if place is None else _allowing(place, tolerance)
        with contextlib.closing(both.of(seen, settings.batch_size)) as made:
            batches = explained(meanings, seen, made, progress, viewer)
            rows, logits = _until_decided(batches, seen, allowed, settings.independent, known)
        kept = distinct(seen.first(len(logits[0])), viewer.views(), logits[0], apart=settings.independent)
        scenes = None  # of each scene only the first image was counted
    else:
        seen = images
        made = both.of(images, settings.batch_size)
        logits = joined(explained(meanings, images, made, progress, viewer))
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


def _opened(
    models: tuple[ModelFile, ...], session: SessionSettings, limits: DecodeLimits
) -> Callable[[Chunk], Seen]:
    """Both models, ready for batches of images."""
    subjects = [
        Subject(Session(model, session), model.preprocess, model.output)
        for model in models
        if model.preprocess is not None  # `common_preprocess` has refused others
    ]
    return functools.partial(see, subjects, limits)


def _digests(specs: Sequence[PreprocessSpec], images: ImageSet) -> tuple[str, ...]:
    """Of all images, without running a model."""
    different = list(dict.fromkeys(specs))
    found = (views_of(batch_pixels([path], different, images.limits)) for path in images.paths)
    return tuple(digest for views in found for digest in views.digests)


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
