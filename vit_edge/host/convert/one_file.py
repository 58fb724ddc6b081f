"""What the commands `export`, `optimize` and `quantize` do: one model file in, one model file out."""

import dataclasses
import os
from pathlib import Path

import onnx

from vit_edge.errors import ModelError, TargetError, UsageError
from vit_edge.host.convert.answers import answers_of, check_answers
from vit_edge.host.convert.apart import canonical_of
from vit_edge.host.convert.attention import described, layout_of, with_attention
from vit_edge.host.convert.export import export, named
from vit_edge.host.convert.for_target import (
    PORTABLE_TARGET,
    at_versions,
    check_target,
    for_target,
    possible_form,
    settings_for,
)
from vit_edge.host.convert.int8 import (
    as_written,
    check_grid_kept,
    check_merges_in_float,
    mend_of,
    metadata_of,
    quantized,
)
from vit_edge.host.convert.normal import normal_form
from vit_edge.host.convert.onnx_io import check_output, finish, read_metadata, read_onnx, save_onnx
from vit_edge.host.convert.optimize import (
    CheckImages,
    image_size,
    natural_pixels,
    optimized,
)
from vit_edge.host.quantize.search import search_of
from vit_edge.host.quantize.types import Quantization, QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical, canonicalise
from vit_edge.host.rewrite.merging import merged
from vit_edge.host.sources import Source, SourceOptions, resolve
from vit_edge.manifest import Parity
from vit_edge.progress import Progress
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.explain.attention import ATTENTION
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, DecodeLimits
from vit_edge.runtime.model.metadata import ModelMetadata
from vit_edge.runtime.steps import Doing, explained
from vit_edge.spec import (
    AS_WRITTEN,
    PORTABLE,
    ModelForm,
    OutputKind,
    QuantizedOperators,
    TargetSpec,
    VersionsWanted,
)
from vit_edge.targets import load_target


@dataclasses.dataclass(frozen=True)
class Written:
    """A model file that was written, and what was checked on the way."""

    path: Path
    size: int
    """Bytes."""
    parity: Parity | None = None
    """To what it was made from; None where that is itself."""
    canonical: Canonical | None = None
    quantization: Quantization | None = None


@dataclasses.dataclass(frozen=True)
class OptimizeSettings:
    """What `optimize_model` is to write."""

    form: ModelForm = PORTABLE
    options: SourceOptions = dataclasses.field(default_factory=SourceOptions)
    images: Path | None = None
    """Folder of natural images on which parity is checked as well."""
    limits: DecodeLimits = DEFAULT_LIMITS
    """What they are decoded within."""
    allow_uncanonical: bool = False


@dataclasses.dataclass(frozen=True)
class QuantizeFileSettings:
    """What `quantize_model` is to write."""

    calibration: Path
    target: TargetSpec | None = None
    """None: portable."""
    quantize: QuantizeSettings = dataclasses.field(default_factory=QuantizeSettings)
    versions: VersionsWanted = AS_WRITTEN
    """In place of the target's."""
    allow_uncanonical: bool = False
    attention: bool = False
    """The probabilities of each block's attention are outputs, too."""
    merge_tokens: int = 0
    """That become part of others in each block."""
    taps: tuple[int, ...] = ()
    """Of an embedder: blocks whose patches are outputs, too."""


def export_model(
    source: Source,
    out: str | os.PathLike[str],
    batch: int | None = None,
    versions: VersionsWanted = AS_WRITTEN,
) -> Written:
    """Export a source as it is, with its labels and preprocessing in the file.

    Raises:
        VitEdgeError: as in `export` and `save_onnx`.
    """
    check_output(out)
    model, parity = export(source, batch, versions)
    return Written(Path(out), save_onnx(finish(model, metadata_of(source)), out), parity)


def export_with_attention(
    source: Source,
    out: str | os.PathLike[str],
    batch: int | None = None,
    versions: VersionsWanted = AS_WRITTEN,
) -> Written:
    """Write the float32 classifier of a source whose attention can be looked at.

    Raises:
        ContractError: the source is no ViT with one grid of patches.
        VitEdgeError: as in `export` and `save_onnx`.
    """
    check_output(out)
    model, canonical, parity = with_attention(source, ModelForm(batch).at(versions))
    return Written(Path(out), save_onnx(model, out), parity, canonical)


def optimize_model(
    path: str | os.PathLike[str], out: str | os.PathLike[str], settings: OptimizeSettings
) -> Written:
    """Rewrite an ONNX classifier to the canonical ViT graph; labels and preprocessing stay in the file.

    Raises:
        ModelError: a file that cannot be read, or (ContractError) that is no canonical ViT.
        ParityError: the rewritten graph gives other logits.
        UsageError, DatasetError: settings that cannot be honoured.
    """
    check_output(out)
    original, options = read_onnx(path), settings.options
    metadata = _metadata_with(path, original, options)
    if metadata.merged_tokens:
        raise ModelError(f"{path} merges tokens already: pass the classifier that it was made from")
    said = options.output_kind or (
        metadata.output if metadata.output is not OutputKind.SINGLE_LABEL else None
    )
    labels = None if metadata.labels is None else len(metadata.labels)
    answers = answers_of(original, str(path), options.output, said, labels)
    original, metadata = answers.model, dataclasses.replace(metadata, output=answers.kind)
    spec = metadata.preprocess
    size = options.image_size or (None if spec is None else (spec.height, spec.width))
    original = normal_form(original, Path(path).name, size)
    if answers.kind.task is OutputKind.EMBEDDING:
        original = named(original, answers.kind.output_name)  # by which rewriting knows it
    check_answers(answers, original, spec, said is not None, str(path))
    canonical = canonicalise(original, Path(path).name, allow_uncanonical=settings.allow_uncanonical)
    natural = None
    if settings.images is not None:
        if metadata.preprocess is None:
            raise UsageError(
                f"{path} does not say how images are preprocessed: "
                "pass --mean, --std, --interpolation and --crop-pct"
            )
        natural = natural_pixels(
            list_images(settings.images, settings.limits).paths, metadata.preprocess, settings.limits
        )
    checked = CheckImages(image_size(canonical), metadata.preprocess, natural)
    model, parity = optimized(original, canonical, possible_form(canonical, settings.form), checked)
    return Written(Path(out), save_onnx(finish(model, metadata), out), parity, canonical)


def quantize_model(
    source: Source,
    out: str | os.PathLike[str],
    settings: QuantizeFileSettings,
    progress: Progress | None = None,
) -> Written:
    """Quantize an ONNX classifier (or any other source) to INT8 for one target.

    Raises:
        VitEdgeError: as in `export`, `canonicalise` and `quantize`.
        TargetError: the target asks for what INT8 files of this version cannot be.
    """
    target = at_versions(settings.target or load_target(PORTABLE_TARGET), settings.versions)
    check_target(target)
    if target.quantized_operators is QuantizedOperators.NONE:
        raise TargetError(
            f"target {target.name} computes everything in {target.form.float_type.value}, so there is "
            "nothing to quantize: use `vit-edge build`, or `vit-edge optimize`"
        )
    check_output(out)
    check_merges_in_float(target, settings.merge_tokens)
    if settings.attention:
        check_grid_kept(settings.merge_tokens, "--attention")
    original, _ = export(source)
    canonical = canonical_of(
        source,
        original,
        allow_uncanonical=settings.allow_uncanonical,
        key_bias=bool(settings.merge_tokens),
    )
    merged(canonical, settings.merge_tokens)  # refused before minutes of work
    layout = layout_of(canonical) if settings.attention else None
    paths = list_images(settings.calibration, settings.quantize.limits).paths
    wanted = settings_for(settings.quantize, [target])
    doing = Doing("calibrate", progress)
    with explained(source.name, doing, mend_of(settings.quantize)):
        search = search_of(canonical, paths, source.preprocess, wanted, doing)
        quantization = search.first()
        shown = "" if layout is None else ATTENTION
        written = merged(search.canonical, settings.merge_tokens, search.folded.frames)
        model = quantized(written, quantization, target, source, attention=shown)
        taken = as_written(search, written, for_target(quantization, target), target)
    if layout is not None:
        model = described(model, layout)
    return Written(Path(out), save_onnx(model, out), None, written, taken)


def _metadata_with(
    path: str | os.PathLike[str], model: onnx.ModelProto, options: SourceOptions
) -> ModelMetadata:
    """The file's own metadata, with what the options state in its place."""
    metadata = read_metadata(model, str(path))
    if options.labels is None and not options.changes_preprocessing:
        return metadata
    source = resolve(str(path), options)
    labels = metadata.labels if source.labels_note else source.labels
    return dataclasses.replace(metadata, labels=labels, preprocess=source.preprocess)
