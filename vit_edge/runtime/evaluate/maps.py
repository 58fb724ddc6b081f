"""Models of maps on the same images: run batch by batch, and of every map only what is measured is kept."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vit_edge.errors import ModelError
from vit_edge.progress import Step
from vit_edge.runtime.evaluate.answers import batch_pixels, batches_of
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.evaluate.truth.base import Truth
from vit_edge.runtime.evaluate.views import Viewer, Views, views_of
from vit_edge.runtime.image.limits import DecodeLimits
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.model.maps import DetectionOutputs, detection_outputs
from vit_edge.runtime.session.session import Session
from vit_edge.spec import PreprocessSpec
from vit_edge.verify.boxes import Boxes, box_agreement, read_boxes
from vit_edge.verify.maps import MapChanges, map_changes
from vit_edge.verify.scores import Scores

_SIDE = 8  # of what of a map tells scenes apart
_CHANNELS = 3  # of the first map that take part

Maps = dict[str, NDArray[np.float32]]


@dataclasses.dataclass(frozen=True, eq=False)
class MapSubject:
    """A model of maps under evaluation."""

    session: Session
    preprocess: PreprocessSpec
    names: tuple[str, ...]
    """Its outputs, in the order in which they are compared with the reference's."""
    boxes: DetectionOutputs | None = None
    """Those of a detection head, where it is one."""


@dataclasses.dataclass(frozen=True, eq=False)
class MapAnswers:
    """What models of maps give for the images of a set."""

    outlines: NDArray[np.float32]
    """(N, K), a few numbers of the reference's first map: what tells scenes apart."""
    changes: tuple[tuple[MapChanges, ...], ...]
    """Of each model against the reference, one per output."""
    scores: tuple[Scores, ...] = ()
    """Of the reference and then of each model against truth; empty where the images carry none."""


@dataclasses.dataclass(frozen=True, eq=False)
class SeenMaps:
    """What models of maps give for a batch, and what it looks like to them."""

    answers: MapAnswers
    views: Views


def map_subject(model: ModelFile, reference: ModelFile, session: Session, spec: PreprocessSpec) -> MapSubject:
    """A model whose maps are matched with the reference's, by name or, where names differ, by place.

    Raises:
        ModelError: they have other outputs, or maps of another shape.
    """
    own, names = {each.name: each.shape for each in model.maps}, [each.name for each in reference.maps]
    matched = names if set(names) <= set(own) else [each.name for each in model.maps]
    fits = len(matched) == len(names) and all(
        _may_be_equal(own[mine], each.shape) for mine, each in zip(matched, reference.maps, strict=True)
    )
    if not fits:
        raise ModelError(
            f"{reference.path} gives {_listed(reference)} and {model.path} {_listed(model)}; "
            "compare two forms of one model"
        )
    return MapSubject(session, spec, tuple(matched), detection_outputs(model.maps))


def evaluate_maps(
    reference: MapSubject,
    others: Sequence[MapSubject],
    images: ImageSet,
    batch_size: int = 8,
    progress: Step | None = None,
    viewer: Viewer | None = None,
) -> MapAnswers:
    """Run every model on every image, a batch at a time, and measure maps against the reference's.

    Raises:
        DatasetError: no image, or one that cannot be decoded.
        ModelError: maps that are not finite, or differ in shape.
        UsageError: a batch size below 1.
    """
    cuts = batches_of(images, batch_size)
    seen = (see_maps(reference, others, images.truth, images.limits, batch) for batch in cuts)
    return joined_maps(seen, len(images), progress, viewer or Viewer())


def see_maps(
    reference: MapSubject,
    others: Sequence[MapSubject],
    truth: Truth | None,
    limits: DecodeLimits,
    batch: Sequence[str] | Sequence[Path],
) -> SeenMaps:
    """Decode a batch of image files once, run every model on it, and measure its maps.

    Raises:
        DatasetError: an image that cannot be decoded.
        ModelError: maps that are not finite, or differ in shape.
    """
    paths = [Path(path) for path in batch]
    specs = list(dict.fromkeys(subject.preprocess for subject in (reference, *others)))
    pixels = batch_pixels(paths, specs, limits)
    given = reference.session.outputs(pixels[reference.preprocess])
    scores = [] if truth is None else [truth.scores(paths, given, reference.preprocess)]
    changes = []
    for subject in others:
        same = subject is reference
        made = given if same else subject.session.outputs(pixels[subject.preprocess])
        changes.append(tuple(_changes(reference, given, subject.names, made)))
        if truth is not None:
            pairs = zip(reference.names, subject.names, strict=True)
            alike = {mine: made[other] for mine, other in pairs}
            scores.append(scores[0] if same else truth.scores(paths, alike, subject.preprocess))
    outlines = outlines_of(given[reference.names[0]])
    return SeenMaps(MapAnswers(outlines, tuple(changes), tuple(scores)), views_of(pixels))


def joined_maps(seen: Iterable[SeenMaps], count: int, progress: Step | None, viewer: Viewer) -> MapAnswers:
    """Batches in their order, whoever ran them, as one.

    Args:
        seen: at least one batch.
        count: images in all.
        progress: told after each batch.
        viewer: keeps what the models saw.
    """
    parts, done = list[MapAnswers](), 0
    for batch in seen:
        parts.append(batch.answers)
        viewer.keep(batch.views)
        done += len(batch.views.digests)
        if progress is not None:
            progress(done, count)
    scores = zip(*(part.scores for part in parts), strict=True)
    changes = zip(*(part.changes for part in parts), strict=True)
    return MapAnswers(
        np.concatenate([part.outlines for part in parts]),
        tuple(_of_all(each) for each in changes),
        tuple(type(each[0]).joined(each) for each in scores),
    )


def outlines_of(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, K) numbers spread evenly over the first channels of maps (N, C, H, W), or over other axes."""
    if maps.ndim == 4:
        rows, columns = (np.linspace(0, size - 1, min(size, _SIDE)).astype(int) for size in maps.shape[2:])
        chosen = maps[:, :_CHANNELS][:, :, rows][:, :, :, columns]
        return np.ascontiguousarray(chosen.reshape(len(maps), -1))
    flat = maps.reshape(len(maps), -1)
    return np.ascontiguousarray(flat[:, np.linspace(0, flat.shape[1] - 1, _SIDE * _SIDE).astype(int)])


def _changes(reference: MapSubject, given: Maps, others: Sequence[str], made: Maps) -> list[MapChanges]:
    pairs = dict(zip(reference.names, others, strict=True))
    changes = {name: map_changes(name, given[name], made[other]) for name, other in pairs.items()}
    heads = reference.boxes
    if heads is None:
        return list(changes.values())
    exact = _read(given[heads.logits], given[heads.boxes])
    found = _read(made[pairs[heads.logits]], made[pairs[heads.boxes]])
    return [
        dataclasses.replace(
            changes[heads.logits],
            output=heads.boxes,
            boxes=np.asarray([box_agreement(*pair) for pair in zip(exact, found, strict=True)]),
            shown=np.asarray([len(each.shown().scores) for each in exact], np.float64),
        )
    ]


def _read(logits: NDArray[np.float32], boxes: NDArray[np.float32]) -> list[Boxes]:
    return [read_boxes(*image) for image in zip(logits, boxes, strict=True)]


def _of_all(parts: Sequence[Sequence[MapChanges]]) -> tuple[MapChanges, ...]:
    """Batches joined, output by output."""
    return tuple(functools.reduce(MapChanges.joined, each) for each in zip(*parts, strict=True))


def _may_be_equal(one: tuple[int | None, ...], other: tuple[int | None, ...]) -> bool:
    return len(one) == len(other) and all(
        None in pair or pair[0] == pair[1] for pair in zip(one, other, strict=True)
    )


def _listed(model: ModelFile) -> str:
    return ", ".join(
        f"{each.name} ({', '.join('?' if size is None else str(size) for size in each.shape)})"
        for each in model.maps
    )
