"""The whole examination on the host: the device's, with what the model shows inside and other forms of it."""

import dataclasses
from pathlib import Path

from vit_edge.diagnosis import Code, Diagnosis, Figure, Finding, Severity
from vit_edge.errors import ModelError, VitEdgeError
from vit_edge.files import scratch_folder
from vit_edge.host.bundling.trial import on_disk
from vit_edge.host.convert.answers import answers_of
from vit_edge.host.convert.export import export
from vit_edge.host.convert.int8 import metadata_of
from vit_edge.host.convert.normal import normal_form
from vit_edge.host.convert.onnx_io import finish, parse_onnx, to_bytes
from vit_edge.host.convert.optimize import natural_pixels, normalisation_of
from vit_edge.host.doctor import inside, table
from vit_edge.host.doctor.pooling import other_pooling
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.rewrite.canonical import Canonical, canonicalise
from vit_edge.host.sources import Source, SourceOptions, resolve
from vit_edge.progress import Step
from vit_edge.runtime.doctor.examination import Examination
from vit_edge.runtime.doctor.examine import DoctorSettings, examine
from vit_edge.runtime.doctor.runs import Rival
from vit_edge.runtime.doctor.variants import Variant
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.model.metadata import ModelMetadata
from vit_edge.spec import OutputKind, PreprocessSpec

WATCHED_IMAGES = 8
_FEW_PATCHES = 64  # per image; with more, patches are hardly too coarse
_VERY_FEW = 9
_HOST_CODES = (*inside.CODES, *table.CODES, Code.POOLING, Code.FEW_TOKENS)


@dataclasses.dataclass(frozen=True, eq=False)
class _Opened:
    """A float model in both forms."""

    canonical: Canonical
    metadata: ModelMetadata
    preprocess: PreprocessSpec


def diagnose_source(
    source: Source,
    options: SourceOptions,
    text: str,
    images: ImageSet,
    settings: DoctorSettings,
    progress: Step | None = None,
) -> Diagnosis:
    """Examine a source as `build` would export it.

    Args:
        source: from `resolve(text, options)`.
        options: what was stated of it.
        text: what names it, to resolve it at a finer size.
        images: labelled or not.
        settings: how.
        progress: told after each batch of images.

    Raises:
        VitEdgeError: as in `export` and `runtime.doctor.examine.examine`.
    """
    exported, _ = export(source)
    canonical = canonicalise(exported, source.name, allow_uncanonical=True)
    opened = _Opened(canonical, metadata_of(source), source.preprocess)
    with scratch_folder() as folder:
        model = on_disk(
            folder / f"{source.name}.onnx", to_bytes(finish(exported, opened.metadata), source.name)
        )
        examination = Examination()
        rivals = _looked(opened, images, examination, folder)
        rivals += _finer(opened, source, options, text, examination, folder)
        found = examine(model, images, settings, rivals, examination, progress)
    return dataclasses.replace(found, model=source.name)


def diagnose_file(
    model: ModelFile, images: ImageSet, settings: DoctorSettings, progress: Step | None = None
) -> Diagnosis:
    """Examine a float ONNX classifier, of a bundle or of somebody else.

    Raises:
        VitEdgeError: as in `runtime.doctor.examine.examine`.
    """
    examination, rivals = Examination(), []
    with scratch_folder() as folder:
        try:
            opened = _read(model)
        except VitEdgeError as error:
            examination.skip(_HOST_CODES, str(error))
        else:
            rivals = _looked(opened, images, examination, folder)
            _count_tokens(opened.canonical, examination, "examine the source, whose size can be changed")
        return examine(model, images, settings, rivals, examination, progress)


def _read(model: ModelFile) -> _Opened:
    name, spec = model.path.name, model.preprocess
    if spec is None:
        raise ModelError(f"{name} does not say how images are preprocessed")
    labels = None if model.labels is None else len(model.labels)
    answers = answers_of(parse_onnx(model.data, name), name, said=model.output.logits, labels=labels)
    normal = normal_form(answers.model, name, (spec.height, spec.width))
    metadata = ModelMetadata(model.labels, spec, output=model.output.logits)
    return _Opened(canonicalise(normal, name, allow_uncanonical=True), metadata, spec)


def _looked(opened: _Opened, images: ImageSet, examination: Examination, folder: Path) -> list[Rival]:
    """Look inside, and make the form with the other pooling."""
    canonical = opened.canonical
    if canonical.description is None:
        examination.skip(_HOST_CODES, canonical.refusal or "the graph is no canonical ViT")
        return []
    table.look_at_table(canonical, examination)
    pixels = natural_pixels(images.paths, opened.preprocess, images.limits, WATCHED_IMAGES)
    if len(pixels) < 2:
        examination.skip(inside.CODES, "there are fewer than 2 images")
    else:
        examination.looked(inside.CODES, inside.look_inside(canonical, opened.preprocess, pixels))
    other = other_pooling(canonical)
    if isinstance(other, str):
        examination.skip([Code.POOLING], other)
        return []
    name, changed = other
    return [_rival(Variant(Code.POOLING, name, opened.preprocess), changed, opened.metadata, folder)]


def _rival(variant: Variant, canonical: Canonical, metadata: ModelMetadata, folder: Path) -> Rival:
    settings = LowerSettings(normalisation=normalisation_of(variant.spec))
    data = to_bytes(finish(lower(canonical, settings), metadata), canonical.name)
    return Rival(variant, on_disk(folder / f"{variant.code.value}.onnx", data))


def _count_tokens(canonical: Canonical, examination: Examination, otherwise: str) -> bool:
    """Whether there are so few patches that a finer size must be tried; where not, say what is known."""
    description = canonical.description
    if description is None:
        return False
    patches = description.tokens - description.prefix_tokens
    if len(description.stages) > 1 or patches > _FEW_PATCHES:
        examination.looked([Code.FEW_TOKENS])
        return False
    if patches > _VERY_FEW:
        examination.skip([Code.FEW_TOKENS], otherwise)
        return True
    found = Finding(
        Code.FEW_TOKENS,
        Severity.WARNING,
        f"the model sees an image as {patches} patches",
        "state a larger --image-size, or train with smaller patches",
        (Figure("patches", float(patches)),),
    )
    examination.looked([Code.FEW_TOKENS], [found])
    return False


def _finer(
    opened: _Opened,
    source: Source,
    options: SourceOptions,
    text: str,
    examination: Examination,
    folder: Path,
) -> list[Rival]:
    """The source at twice its size, where its patches are few and its positions can be resized."""
    description = opened.canonical.description
    if description is None or source.output.task is not OutputKind.SINGLE_LABEL:
        return []
    if len(description.stages) > 1 or description.tokens - description.prefix_tokens > _FEW_PATCHES:
        examination.looked([Code.FEW_TOKENS])
        return []
    spec = source.preprocess
    try:
        finer = resolve(text, dataclasses.replace(options, image_size=(2 * spec.height, 2 * spec.width)))
        exported, _ = export(finer)
    except VitEdgeError as error:
        _count_tokens(opened.canonical, examination, f"it cannot be made at a finer size ({error})")
        return []
    metadata = metadata_of(finer)
    data = to_bytes(finish(exported, metadata), source.name)
    variant = Variant(Code.FEW_TOKENS, f"{2 * spec.height}x{2 * spec.width} pixels", finer.preprocess)
    return [Rival(variant, on_disk(folder / "finer.onnx", data))]
