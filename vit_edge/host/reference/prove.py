"""The proof source -> float: image file in, label and probability out, by the source and by the runtime."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vit_edge.bundle import Role
from vit_edge.errors import ModelError, SourceError, VitEdgeError
from vit_edge.host.reference.stages import Parting, first_difference
from vit_edge.host.reference.types import Answer, Pipeline, Reference
from vit_edge.progress import Step
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.image.limits import DecodeLimits
from vit_edge.runtime.image.preprocess import Decoding
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.runtime.predict.classifier import Classifier, Prediction
from vit_edge.runtime.predict.embedder import Embedder, Floats
from vit_edge.source_parity import Difference, ProofState, SourceParity
from vit_edge.spec import OutputKind

TOLERANCE = 1e-4  # of a probability: float32 rounding by another library's kernels
SHOWN = 20  # differing images that are recorded, and located, which takes some runs each
_TINY = 1e-30  # of a length
_EVERY = 1_000_000  # classes: more than any head has


@dataclasses.dataclass(frozen=True)
class _Compared:
    """One image."""

    same_label: bool
    distance: float  # largest difference of a probability that both state
    difference: Difference | None


def prove(
    reference: Reference,
    float_model: Path,
    images: ImageSet,
    tolerance: float = TOLERANCE,
    progress: Step | None = None,
) -> SourceParity:
    """Let both answer for every image.

    Args:
        reference: answers for the source.
        float_model: a bundle, for its float model, or that model's ONNX file.
        images: files; their labels play no part.
        tolerance: that a probability may differ by, 0 to 1.
        progress: told how many images are done.

    Returns:
        PROVEN if every label is the same and every probability within the tolerance, else DIFFERS.

    Raises:
        SourceError: the reference fails on an image, or names a class that the model does not have.
        ImageError: an image that the device runtime refuses.
        ModelError: the model cannot be run.
    """
    role = Role.FLOAT if float_model.is_dir() else None
    model = read_model(float_model, role)
    compare = _comparer(float_model, role, model, images.limits)
    compared: list[_Compared] = []
    for done, path in enumerate(images.paths, 1):
        compared.append(compare(path, _of_both_classes(reference.answer(path), model.output), tolerance))
        if progress is not None:
            progress(done, len(images))
    differing = [(index, each.difference) for index, each in enumerate(compared) if each.difference]
    shown = [found for _, found in differing[:SHOWN]]
    if isinstance(reference, Pipeline):
        shown = _located(reference, model, images, [index for index, _ in differing[:SHOWN]], shown)
    return _record(reference.name, compared, tolerance, len(differing), tuple(shown), model.output)


def _comparer(
    float_model: Path, role: Role | None, model: ModelFile, limits: DecodeLimits
) -> Callable[[Path, Answer, float], _Compared]:
    """What the device runtime gives for an image beside a reference's answer, by what the numbers mean."""
    if model.output.task is OutputKind.EMBEDDING:
        embed = Embedder(float_model, "cpu", decoding=Decoding.EXACT, model=role, limits=limits)
        return lambda path, answer, tolerance: _compare_vectors(path, answer, embed(path).pooled, tolerance)
    compare = _compare_values if model.output.task is OutputKind.REGRESSION else _compare
    classify = Classifier(float_model, provider="cpu", decoding=Decoding.EXACT, model=role, limits=limits)
    return lambda path, answer, tolerance: compare(path, answer, classify(path, top_k=_EVERY), tolerance)


def _of_both_classes(answer: Answer, kind: OutputKind) -> Answer:
    """Of a model with one logit, the two classes that the device runtime makes of it."""
    if kind.logits is not OutputKind.BINARY or answer.probabilities is None or len(answer.probabilities) != 1:
        return answer
    yes = float(answer.probabilities[0])
    index = int(yes > 0.5)
    return Answer(None, index, (1 - yes, yes)[index], np.array([1 - yes, yes]))


def _compare(path: Path, answer: Answer, ours: list[Prediction], tolerance: float) -> _Compared:
    scores: npt.NDArray[np.float64] = np.zeros(len(ours))
    for each in ours:
        scores[each.index] = each.score
    index = _class_of(answer, ours, path)
    best, same = ours[0], index == ours[0].index and answer.label in (None, ours[0].label, str(index))
    if answer.probabilities is not None and len(answer.probabilities) == len(scores):
        distance = float(np.abs(answer.probabilities - scores).max())
    else:
        distance = 0.0 if answer.probability is None else abs(answer.probability - scores[index])
    if same and distance <= tolerance:
        return _Compared(same, distance, None)
    named = answer.label or next(each.label for each in ours if each.index == index)
    found = Difference(path.name, None, named, answer.probability, best.label, float(scores[index]))
    return _Compared(same, distance, found)


def _compare_values(path: Path, answer: Answer, ours: list[Prediction], tolerance: float) -> _Compared:
    """Of a regression: differences are shares of the largest value, or of 1 where all are smaller."""
    if answer.probabilities is None or len(answer.probabilities) != len(ours):
        raise SourceError(
            f"the reference does not give the {len(ours)} values of {path.name}, which are what a regression "
            "is compared by"
        )
    mine = np.array([each.score for each in ours])
    apart = np.abs(answer.probabilities - mine) / max(1.0, float(np.abs(answer.probabilities).max()))
    worst = int(apart.argmax())
    distance = float(apart[worst])
    if distance <= tolerance:
        return _Compared(True, distance, None)
    named, theirs = ours[worst].label, float(answer.probabilities[worst])
    return _Compared(False, distance, Difference(path.name, None, named, theirs, named, float(mine[worst])))


def _compare_vectors(path: Path, answer: Answer, ours: Floats, tolerance: float) -> _Compared:
    """Of embeddings: the length of their difference, as a share of that of the source's."""
    theirs = answer.probabilities
    if theirs is None or len(theirs) != len(ours):
        raise SourceError(
            f"the reference does not give the {len(ours)} numbers of {path.name}'s "
            "embedding, which are what it is compared by"
        )
    apart = ours - theirs
    distance = float(np.linalg.norm(apart) / max(float(np.linalg.norm(theirs)), _TINY))
    if distance <= tolerance:
        return _Compared(True, distance, None)
    worst = int(np.abs(apart).argmax())
    named = f"number {worst}"
    found = Difference(path.name, None, named, float(theirs[worst]), named, float(ours[worst]))
    return _Compared(False, distance, found)


def _class_of(answer: Answer, ours: list[Prediction], path: Path) -> int:
    if answer.probabilities is not None and len(answer.probabilities) != len(ours):
        raise SourceError(
            f"the reference gives {len(answer.probabilities)} probabilities for {path.name} where the model "
            f"has {len(ours)} classes: it is of another model"
        )
    if answer.index is not None:
        return answer.index
    # Of two classes with one name, which ImageNet has, the reference means the likelier.
    found = next((each.index for each in ours if each.label == answer.label), None)
    if found is None and str(answer.label).isdecimal() and int(str(answer.label)) < len(ours):
        found = int(str(answer.label))
    if found is None:
        raise SourceError(
            f"the reference calls {path.name} {answer.label!r}, which the model has no class for"
        )
    return found


def _located(
    pipeline: Pipeline, model: ModelFile, images: ImageSet, indices: list[int], found: list[Difference]
) -> list[Difference]:
    if model.preprocess is None:
        raise ModelError(f"{model.path} does not say how images are preprocessed; export it again")
    spec = model.preprocess

    def parting(path: Path) -> Parting:
        try:
            return first_difference(pipeline, path, model, spec, images.limits)
        except VitEdgeError:
            raise
        except Exception as error:  # the source's own code may raise anything
            raise SourceError(
                f"{pipeline.name} answers for {path.name}, but fails where its stages are looked at "
                f"({type(error).__name__})"
            ) from error

    parted = [parting(images.paths[index]) for index in indices]
    return [
        dataclasses.replace(each, stage=where.stage, cause=where.cause)
        for where, each in zip(parted, found, strict=True)
    ]


def _record(
    name: str,
    compared: list[_Compared],
    tolerance: float,
    differ: int,
    shown: tuple[Difference, ...],
    kind: OutputKind,
) -> SourceParity:
    count, same = len(compared), sum(each.same_label for each in compared)
    largest = max(each.distance for each in compared)
    state = ProofState.DIFFERS if differ else ProofState.PROVEN
    record = SourceParity(state, "-", name, count, differ, 100 * same / count, largest, tolerance, shown)
    stages = ", ".join(stage.value for stage in record.stages)
    causes = f" ({'; '.join(record.causes)})" if record.causes else ""
    told = f"; the first stage that differs: {stages}{causes}" if stages else ""
    what = f"the same label for {same} of {count} image files and probabilities within {largest:.1e}"
    if kind.task is OutputKind.EMBEDDING:
        what = f"the same embedding for {same} of {count} image files, within {largest:.1e} of its length"
    if kind.task is OutputKind.REGRESSION:
        what = (
            f"the same values for {same} of {count} image files, within {largest:.1e} of the largest or of 1"
        )
    reason = f"{name} gives {what} (allowed {tolerance:.0e}){told}"
    return dataclasses.replace(record, reason=reason)
