"""Whether two model files are forms of one model, and the labels of images theirs."""

from pathlib import Path

import numpy as np

from vit_edge.bundle import Role, is_bundle, read_bundle
from vit_edge.errors import BundleError, DatasetError, ModelError
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.model.file import ANYTHING, ModelFile, check_classifier, read_model
from vit_edge.runtime.model.outputs import OutputWanted
from vit_edge.spec import OutputKind, PreprocessSpec
from vit_edge.verify import find_renumbering
from vit_edge.verify.arrays import Floats
from vit_edge.verify.metrics import top_k_correct
from vit_edge.verify.proportion import clopper_pearson

_FAR_BELOW = 5.0  # points
_LEAST_JUDGED = 30  # images; on fewer a good model may look like a guess
_MEND = "compare two forms of one model"


def read_quantized(path: Path, wanted: OutputWanted = ANYTHING) -> ModelFile:
    """Read the model to be judged; of a bundle its INT8 one, whatever runs by default.

    Where a lowered model runs by default, it is that one, else the portable one, else the only lowered one.

    Raises:
        BundleError: the bundle holds the float model alone, or several lowered ones of which none is named.
        ModelError: as `read_model` does.
    """
    if not (path.is_dir() and is_bundle(path)):
        return read_model(path, wanted=wanted)
    bundle = read_bundle(path)
    default = bundle.manifest.default_model
    reduced = [name for role in (Role.QUANTIZED, Role.LOWERED) for name in bundle.with_role(role)]
    if default in reduced:
        return read_model(path, default)
    if not reduced:
        raise BundleError(
            f"{path} holds no INT8 model, so there is nothing to compare with its float one; build it again "
            "with another tolerance, or name a model file"
        )
    return read_model(path, reduced[0])


def stated_top1(path: Path) -> float | None:
    """The float accuracy that a bundle's manifest records, in percent; None of anything else."""
    if not (path.is_dir() and is_bundle(path)):
        return None
    accuracy = read_bundle(path).manifest.accuracy
    return None if accuracy is None else accuracy.report.top1_float


def common_preprocess(model: ModelFile, other: ModelFile) -> PreprocessSpec:
    """The model's own preprocessing, or else that of the other.

    Raises:
        ModelError: neither carries any, or the model cannot take what the other's makes.
    """
    spec = model.preprocess or other.preprocess
    if spec is None:
        raise ModelError(
            f"neither {model.path} nor {other.path} carries its preprocessing; export the model with vit-edge"
        )
    if model.size not in (None, (spec.height, spec.width)):
        raise ModelError(
            f"{model.path} carries no preprocessing and takes {model.size} pixels, but that of {other.path} "
            f"makes {(spec.height, spec.width)}; {_MEND}"
        )
    return spec


def borrowed(float_model: ModelFile, quant_model: ModelFile) -> tuple[str, ...]:
    """A note where one model's images are made as the other says, for want of its own word."""
    pairs = ((float_model, quant_model), (quant_model, float_model))
    return tuple(
        f"{model.path} does not say how its images are made: as {other.path} says"
        for model, other in pairs
        if model.preprocess is None
    )


def common_kind(float_model: ModelFile, quant_model: ModelFile) -> OutputKind:
    """The task that both models have: SINGLE_LABEL, MULTI_LABEL, REGRESSION or MAP.

    Raises:
        ModelError: they have different ones, or one that is not known.
    """
    maps = [bool(model.maps) for model in (float_model, quant_model)]
    for model in () if all(maps) else (float_model, quant_model):
        check_classifier(model)
    first, second = float_model.output, quant_model.output
    if first.task is not second.task:
        raise ModelError(
            f"{float_model.path} gives {first.value} and {quant_model.path} {second.value}; {_MEND}, or "
            "state what both mean with --output-kind"
        )
    return first.task


def common_labels(float_model: ModelFile, quant_model: ModelFile) -> tuple[str, ...] | None:
    """The labels of either model, None where neither carries any.

    Raises:
        ModelError: the models have different numbers of classes, or differ in their labels.
    """
    where = f"{float_model.path} and {quant_model.path}"
    counts = [_class_count(model) for model in (float_model, quant_model)]
    if None not in counts and counts[0] != counts[1]:
        raise ModelError(f"{where} have {counts[0]} and {counts[1]} classes; {_MEND}")
    first, second = float_model.labels, quant_model.labels
    if first is None or second is None or first == second:
        return first or second
    index = next(i for i, (one, two) in enumerate(zip(first, second, strict=True)) if one != two)
    how = (
        "have the same labels in another order"
        if sorted(first) == sorted(second)
        else "differ in their labels"
    )
    raise ModelError(
        f"{where} {how}, first in class {index} ({first[index]!r} and {second[index]!r}); {_MEND}"
    )


def check_order(
    float_model: ModelFile, quant_model: ModelFile, float_logits: Floats, quant_logits: Floats
) -> None:
    """Refuse models whose classes are in another order by behaviour, whatever their labels say.

    Args:
        float_model: what gave `float_logits`.
        quant_model: what gave `quant_logits`.
        float_logits: (N, C) finite floating point.
        quant_logits: (N, C) finite floating point, the same images.

    Raises:
        ModelError: a permutation of the classes explains why the models disagree.
    """
    found = find_renumbering(float_logits, quant_logits)
    if found is None:
        return
    labels = float_model.labels or quant_model.labels

    def called(index: int) -> str:
        return f"class {index}" if labels is None else f"class {index} ({labels[index]!r})"

    raise ModelError(
        f"{called(found.quant_class)} of {quant_model.path} behaves as {called(found.float_class)} of "
        f"{float_model.path}, so their classes are in different orders ({found.differing} of {found.images} "
        f"predictions differ, {found.differing_after} once the classes are matched); {_MEND}"
    )


def check_better_than_guessing(model: ModelFile, images: ImageSet, logits: Floats) -> None:
    """Refuse labels of another model, on which a quantized model could lose nothing: it would always pass.

    Args:
        model: the float model.
        images: what it was run on.
        logits: (N, C) finite floating point.

    Raises:
        DatasetError: the images are labelled, and the model is not demonstrably (at 95 %) better than chance.
    """
    if images.targets is None or len(images) < _LEAST_JUDGED:
        return
    right = int(np.count_nonzero(top_k_correct(logits, images.targets, 1)))
    if clopper_pearson(right, len(images), 0.95)[0] <= 1.0 / logits.shape[1]:
        raise DatasetError(
            f"{model.path} is right on {right} of {len(images)} images of {images.name}, no better than "
            f"guessing among {logits.shape[1]} classes; check the labels and the preprocessing, or compare "
            "without labels"
        )


def check_expected(model: ModelFile, images: ImageSet, logits: Floats, expected: float | None) -> None:
    """Refuse a float model that is itself wrong: what quantization costs would be beside the point.

    Args:
        model: the float model.
        images: what it was run on.
        logits: (N, C) finite floating point.
        expected: percent of top-1 that the model is known to reach; None where nothing is expected.

    Raises:
        DatasetError: an accuracy is expected and the images are not labelled.
        ModelError: the accuracy is demonstrably (at 95 %) lower.
    """
    if expected is None:
        return
    if images.targets is None:
        raise DatasetError(
            f"{images.name} has no labels, so --expect-top1 cannot be checked; label the images"
        )
    right = int(np.count_nonzero(top_k_correct(logits, images.targets, 1)))
    low, high = (100.0 * limit for limit in clopper_pearson(right, len(images), 0.95))
    if high < expected:
        raise ModelError(
            f"{model.path} is right on {100.0 * right / len(images):.1f} % of {len(images)} images of "
            f"{images.name} (95 % interval {low:.1f} to {high:.1f}), where {expected:g} % are expected: "
            "suspect its weights, labels or preprocessing, not the quantization"
        )


def accuracy_notes(images: ImageSet, logits: Floats, stated: float | None) -> tuple[str, ...]:
    """What makes the float model itself suspect.

    Args:
        images: what it was run on.
        logits: (N, C) finite floating point.
        stated: percent of top-1 that the model's card or manifest states, where one does.
    """
    if images.targets is None:
        return ()
    right = int(np.count_nonzero(top_k_correct(logits, images.targets, 1)))
    low, high = (100.0 * limit for limit in clopper_pearson(right, len(images), 0.95))
    share = f"the float model is right on {100.0 * right / len(images):.1f} % of {len(images)} images"
    suspect = "suspect its weights, labels or preprocessing before the quantization"
    commonest = 100.0 * float(np.bincount(images.targets).max()) / len(images)
    notes = []
    if len(np.unique(images.targets)) > 1 and len(images) >= _LEAST_JUDGED and low <= commonest:
        trivial = f"always answering the commonest class ({commonest:.1f} %)"
        notes.append(f"{share}, hardly more than {trivial}: {suspect}")
    if stated is not None and high < stated - _FAR_BELOW:
        notes.append(f"{share}, far below the {stated:.1f} % that are stated for it: {suspect}")
    return tuple(notes)


def _class_count(model: ModelFile) -> int | None:
    return model.answers
