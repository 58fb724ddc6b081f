"""Two models of maps on the same images, judged."""

import dataclasses
import functools
from collections.abc import Callable

from vit_edge.errors import UsageError
from vit_edge.progress import Step
from vit_edge.runtime.evaluate.comparison import Comparison
from vit_edge.runtime.evaluate.compatible import borrowed, common_labels, common_preprocess
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.evaluate.elsewhere import runs
from vit_edge.runtime.evaluate.maps import SeenMaps, joined_maps, map_subject, see_maps
from vit_edge.runtime.evaluate.settings import CompareSettings
from vit_edge.runtime.evaluate.truth.base import Truth
from vit_edge.runtime.evaluate.truth.read import truth_notes
from vit_edge.runtime.evaluate.views import Viewer, distinct
from vit_edge.runtime.image.limits import DecodeLimits
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.session import Session, SessionSettings
from vit_edge.runtime.spread.task import Chunk
from vit_edge.spec import OutputKind, Tolerance
from vit_edge.verify.looks import place_look
from vit_edge.verify.maps import changed_maps, judge_maps
from vit_edge.verify.truth import judge_truth


def compare_maps(
    float_model: ModelFile,
    quant_model: ModelFile,
    images: ImageSet,
    tolerance: Tolerance,
    settings: CompareSettings,
    progress: Step | None = None,
) -> Comparison:
    """As `compare`, of two models of maps: the second's maps are measured against the first's.

    Raises:
        DatasetError: no image, one that cannot be decoded, or maps without any contrast.
        ModelError: maps that differ in number, name or shape.
        UsageError: an accuracy is expected, which maps have none of.
    """
    if settings.expect_top1 is not None:
        raise UsageError("--expect-top1 is about models of single labels only; leave it out")
    pairs = ((float_model, quant_model), (quant_model, float_model))
    specs = [common_preprocess(*pair) for pair in pairs]
    models = [
        dataclasses.replace(model, preprocess=spec)
        for model, spec in zip((float_model, quant_model), specs, strict=True)
    ]
    opens = functools.partial(_opened, images.truth)
    both = runs(models, settings.session, images.limits, opens, settings.spread)
    names = common_labels(float_model, quant_model)
    viewer = Viewer()
    found = joined_maps(both.of(images, settings.batch_size), len(images), progress, viewer)
    kept = distinct(images, viewer.views(), found.outlines, apart=settings.independent)
    looked = frozenset(viewer.views().digests)
    place = place_look(settings.earlier, looked)
    # a bootstrap is for a fixed number of images
    share = place.confidence if images.truth is None else place.spent
    allowed = dataclasses.replace(tolerance, confidence=share(tolerance.confidence))
    changes = [change.at(kept.rows) for change in found.changes[0]]
    report = judge_maps(changes, allowed, sequential=place.again, scenes=kept.scenes)
    if images.truth is not None:
        given, made = (each.at(kept.rows) for each in found.scores)
        report = judge_truth(report, (given, made), names, kept.scenes)
    same, changed = changed_maps(changes, allowed.maps)
    return Comparison(
        report,
        images.chosen(kept.rows),
        len(images),
        names,
        same,
        changed,
        kept.copies,
        place,
        tuple(dict.fromkeys([*settings.earlier, looked])),
        models=(float_model, quant_model),
        notes=(*borrowed(float_model, quant_model), *truth_notes(images)),
        kind=OutputKind.MAP,
    )


def _opened(
    truth: Truth | None, models: tuple[ModelFile, ...], session: SessionSettings, limits: DecodeLimits
) -> Callable[[Chunk], SeenMaps]:
    """Both models, ready for batches of images."""
    reference, other = (
        map_subject(model, models[0], Session(model, session), model.preprocess)
        for model in models
        if model.preprocess is not None  # `common_preprocess` has refused others
    )
    return functools.partial(see_maps, reference, [other], truth, limits)
