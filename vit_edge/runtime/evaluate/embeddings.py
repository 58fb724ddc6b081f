"""Two forms of one embedder on the same images, from the checks before to the verdict."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_edge.bundle import Role, is_bundle, read_bundle
from vit_edge.embedding_report import EmbeddingReport
from vit_edge.errors import BundleError, DatasetError, ModelError, UsageError
from vit_edge.progress import Step
from vit_edge.runtime.evaluate.answers import batch_pixels
from vit_edge.runtime.evaluate.comparison import named
from vit_edge.runtime.evaluate.compatible import borrowed, common_preprocess
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.evaluate.elsewhere import runs
from vit_edge.runtime.evaluate.looks import Pair, looks_json
from vit_edge.runtime.evaluate.settings import CompareSettings
from vit_edge.runtime.evaluate.views import Copies, Viewer, Views, distinct, views_of
from vit_edge.runtime.image.limits import DecodeLimits
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.runtime.session.session import Session, SessionSettings
from vit_edge.runtime.spread.task import Chunk
from vit_edge.spec import EmbeddingTolerance, PreprocessSpec
from vit_edge.verify import judge_embeddings
from vit_edge.verify.copies import find_scenes_by_embeddings
from vit_edge.verify.fidelity import ComparedOutput
from vit_edge.verify.looks import Looked, LookPlace, place_look

Floats = NDArray[np.float32]
Answers = tuple[dict[str, ComparedOutput], Viewer]


@dataclasses.dataclass(frozen=True, eq=False)
class EmbeddingComparison:
    """Two embedders on the same images: the verdict, and what it rests on."""

    report: EmbeddingReport
    models: tuple[ModelFile, ModelFile]
    """Float and quantized."""
    copies: Copies
    place: LookPlace
    """Among all looks at these models."""
    history: tuple[Looked, ...]
    """Looks at these models, this one the last or as it was before."""
    notes: tuple[str, ...]

    @property
    def pair(self) -> Pair:
        """SHA-256 of both models."""
        return self.models[0].sha256, self.models[1].sha256

    def to_json(self) -> dict[str, Any]:
        """What `vit-edge compare --json` writes: the report's keys, and more under `evidence`."""
        evidence = {
            "copies": self.copies.to_json(),
            "look": dataclasses.asdict(self.place),
            "notes": list(self.notes),
            "history": looks_json(self.pair, self.history),
            "models": [named(model) for model in self.models],
        }
        return self.report.to_json() | {"evidence": evidence}


def compare_embedders(
    float_model: ModelFile,
    quant_model: ModelFile,
    images: ImageSet,
    tolerance: EmbeddingTolerance,
    settings: CompareSettings | None = None,
    progress: Step | None = None,
) -> EmbeddingComparison:
    """Run both embedders on the images and judge the second against the first.

    Copies are counted once and scenes as one image, as `compare` does it. A look that shares images with
    earlier ones is judged at the confidence that all looks together leave it (`LookPlace.spent`).

    Args:
        float_model: the reference.
        quant_model: what is judged.
        images: with one class each, or without labels.
        tolerance: what is accepted.
        settings: how to run them.
        progress: told after each batch.

    Raises:
        DatasetError: no image, one that cannot be decoded, or labels that are no classes.
        ModelError: no two forms of one embedder.
        UsageError: settings that are about classifiers.
    """
    settings = settings or CompareSettings()
    _check_settings(settings)
    _check_pair(float_model, quant_model)
    if images.targets is not None and images.targets.ndim != 1:
        raise DatasetError(f"{images.name} has several labels or values per image; give each image one class")
    specs = (common_preprocess(float_model, quant_model), common_preprocess(quant_model, float_model))
    outputs, viewer = _run((float_model, quant_model), specs, images, settings, progress)
    whole = next(each.vectors for each in outputs.values() if each.vectors is not None)
    views = viewer.views()
    kept = distinct(images, views, whole[0], apart=settings.independent, find=find_scenes_by_embeddings)
    looked = frozenset(views.digests)
    place = place_look(settings.earlier, looked)
    allowed = dataclasses.replace(tolerance, confidence=place.spent(tolerance.confidence))
    report = judge_embeddings(
        {name: each.at(kept.rows) for name, each in outputs.items()},
        images.chosen(kept.rows).targets,
        allowed,
        kept.scenes,
    )
    return EmbeddingComparison(
        report,
        (float_model, quant_model),
        kept.copies,
        place,
        tuple(dict.fromkeys([*settings.earlier, looked])),
        borrowed(float_model, quant_model),
    )


def read_embedder_pair(first: Path, second: Path) -> tuple[ModelFile, ModelFile]:
    """The float embedder of a bundle or a file, and the INT8 one of a bundle or a file.

    Raises:
        BundleError: a bundle without that embedder.
        ModelError: a file that cannot be read.
    """
    return _read(first, Role.EMBEDDER_FLOAT, "float"), _read(second, Role.EMBEDDER, "INT8")


def _read(path: Path, role: Role, word: str) -> ModelFile:
    if not (path.is_dir() and is_bundle(path)):
        return read_model(path)
    bundle = read_bundle(path)
    role = bundle.embedding_role(role)
    if not bundle.with_role(role):
        raise BundleError(f"{path} holds no {word} embedder; build it with --embedder, or name a model file")
    return read_model(path, role)


def _check_settings(settings: CompareSettings) -> None:
    if settings.sequential:
        raise UsageError("--sequential judges models of single labels only; leave it out")
    if settings.expect_top1 is not None:
        raise UsageError("--expect-top1 is about models of single labels only; leave it out")


def _check_pair(float_model: ModelFile, quant_model: ModelFile) -> None:
    for model in (float_model, quant_model):
        if not model.embeds:
            raise ModelError(f"{model.path} is a classifier, the other an embedder; compare two forms of one")
    if float_model.outputs != quant_model.outputs:
        shapes = [
            ", ".join(f"{name} {shape}" for name, shape in each.outputs.items())
            for each in (float_model, quant_model)
        ]
        raise ModelError(
            f"{float_model.path} gives {shapes[0]} and {quant_model.path} {shapes[1]}; compare two forms of "
            "one embedder"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class _Seen:
    """Of a batch: what both give, of patches only how alike they are, as all would fill the memory."""

    outputs: dict[str, ComparedOutput]
    views: Views


def _run(
    models: tuple[ModelFile, ModelFile],
    specs: tuple[PreprocessSpec, PreprocessSpec],
    images: ImageSet,
    settings: CompareSettings,
    progress: Step | None,
) -> Answers:
    """What both give, image after image."""
    complete = [
        dataclasses.replace(model, preprocess=spec) for model, spec in zip(models, specs, strict=True)
    ]
    both = runs(complete, settings.session, images.limits, _opened, settings.spread)
    viewer, done = Viewer(), 0
    parts: dict[str, list[ComparedOutput]] = {name: [] for name in models[0].outputs}
    for seen in both.of(images, settings.batch_size):
        for name, kept in parts.items():
            kept.append(seen.outputs[name])
        viewer.keep(seen.views)
        done += len(seen.views.digests)
        if progress is not None:
            progress(done, len(images))
    return {name: ComparedOutput.joined(kept) for name, kept in parts.items()}, viewer


def _opened(
    models: tuple[ModelFile, ...], session: SessionSettings, limits: DecodeLimits
) -> Callable[[Chunk], _Seen]:
    """Both models, ready for batches of images."""
    return functools.partial(_see, [Session(model, session) for model in models], limits)


def _see(sessions: Sequence[Session], limits: DecodeLimits, paths: Chunk) -> _Seen:
    specs = [each.model.preprocess for each in sessions if each.model.preprocess is not None]
    pixels = batch_pixels([Path(path) for path in paths], list(dict.fromkeys(specs)), limits)
    made = [session.outputs(pixels[spec]) for session, spec in zip(sessions, specs, strict=True)]
    compared = {name: ComparedOutput.of(given, made[1][name]) for name, given in made[0].items()}
    return _Seen(compared, views_of(pixels))
