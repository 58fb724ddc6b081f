"""What the commands `export`, `optimize` and `quantize` do: one model file in, one model file out."""

import dataclasses
import os
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

import onnx

from vit_edge.errors import TargetError, UsageError
from vit_edge.host.convert.answers import answers_of, check_answers
from vit_edge.host.convert.apart import canonical_of
from vit_edge.host.convert.export import export
from vit_edge.host.convert.normal import normal_form
from vit_edge.host.convert.onnx_io import Stamp, check_output, finish, read_onnx, read_stamp, save_onnx
from vit_edge.host.convert.optimize import CheckImages, natural_pixels, normalisation_of, optimized
from vit_edge.host.convert.parity import Parity
from vit_edge.host.lower.full_integer import OPSET_16_BIT, lower_full_integer
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.plan import FLOAT
from vit_edge.host.quantize.observe import EIGHT_BITS
from vit_edge.host.quantize.plans import GELU
from vit_edge.host.quantize.reduced_range import with_notes
from vit_edge.host.quantize.search import search_of
from vit_edge.host.quantize.types import Form, Quantization, QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical, canonicalise
from vit_edge.host.sources import Source, SourceOptions, resolve
from vit_edge.progress import Progress
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, DecodeLimits
from vit_edge.runtime.steps import Doing, explained
from vit_edge.spec import (
    AS_WRITTEN,
    LOGITS,
    OPSETS,
    PORTABLE,
    ActivationType,
    Arithmetic,
    FloatType,
    GraphStyle,
    InputForm,
    ModelForm,
    OutputKind,
    QuantizedOperators,
    TargetSpec,
    VersionsWanted,
)
from vit_edge.targets import load_target

PORTABLE_TARGET = "cpu"

_OPSET_HALF_SCALES = 19  # QuantizeLinear of float16


@dataclasses.dataclass(frozen=True)
class Written:
    """A model file that was written, and what was checked on the way."""

    path: Path
    size: int  # bytes
    parity: Parity | None = None  # to what it was made from; None where that is itself
    canonical: Canonical | None = None
    quantization: Quantization | None = None


@dataclasses.dataclass(frozen=True)
class OptimizeSettings:
    """What `optimize_model` is to write."""

    form: ModelForm = PORTABLE
    options: SourceOptions = dataclasses.field(default_factory=SourceOptions)
    images: Path | None = None  # folder of natural images on which parity is checked as well
    limits: DecodeLimits = DEFAULT_LIMITS  # what they are decoded within
    allow_uncanonical: bool = False


@dataclasses.dataclass(frozen=True)
class QuantizeFileSettings:
    """What `quantize_model` is to write."""

    calibration: Path
    target: TargetSpec | None = None  # None: portable
    quantize: QuantizeSettings = dataclasses.field(default_factory=QuantizeSettings)
    versions: VersionsWanted = AS_WRITTEN  # in place of the target's
    allow_uncanonical: bool = False


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
    return Written(Path(out), save_onnx(finish(model, stamp_of(source)), out), parity)


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
    stamp = _stamp_with(path, original, options)
    said = options.output_kind or (stamp.output if stamp.output is not OutputKind.SINGLE_LABEL else None)
    labels = None if stamp.labels is None else len(stamp.labels)
    answers = answers_of(original, str(path), options.output, said, labels)
    original, stamp = answers.model, dataclasses.replace(stamp, output=answers.kind)
    spec = stamp.preprocess
    size = options.image_size or (None if spec is None else (spec.height, spec.width))
    original = normal_form(original, Path(path).name, size)
    check_answers(answers, original, spec, said is not None, str(path))
    canonical = canonicalise(original, Path(path).name, allow_uncanonical=settings.allow_uncanonical)
    natural = None
    if settings.images is not None:
        if stamp.preprocess is None:
            raise UsageError(
                f"{path} does not say how images are preprocessed: pass mean, std, interpolation and crop_pct"
            )
        natural = natural_pixels(
            list_images(settings.images, settings.limits).paths, stamp.preprocess, settings.limits
        )
    checked = CheckImages(image_size(canonical), stamp.preprocess, natural)
    model, parity = optimized(original, canonical, possible_form(canonical, settings.form), checked)
    return Written(Path(out), save_onnx(finish(model, stamp), out), parity, canonical)


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
    original, _ = export(source)
    canonical = canonical_of(source, original, allow_uncanonical=settings.allow_uncanonical)
    paths = list_images(settings.calibration, settings.quantize.limits).paths
    wanted = settings_for(settings.quantize, [target])
    doing = Doing("calibrate", progress)
    with explained(source.name, doing, mend_of(settings.quantize)):
        search = search_of(canonical, paths, source.preprocess, wanted, doing)
        quantization = search.first()
        model = quantized(search.canonical, quantization, target, source)
    taken = for_target(quantization, target)
    return Written(Path(out), save_onnx(model, out), None, canonical, taken)


def mend_of(settings: QuantizeSettings) -> str:
    """What to do where a library failed while a model was quantized."""
    kept = f"what calibration saw is kept in {settings.cache}; " if settings.cache is not None else ""
    return f"{kept}try fewer threads or images if memory ran out, else report this model"


def quantized(
    canonical: Canonical,
    quantization: Quantization,
    target: TargetSpec,
    source: Source,
    outputs: tuple[str, ...] = (LOGITS,),
) -> onnx.ModelProto:
    """The finished INT8 file for one target; `outputs` as in `LowerSettings`."""
    plan = for_target(quantization, target).plan
    form = possible_form(canonical, target.form)
    lowering = LowerSettings(form, normalisation_of(source.preprocess), outputs)
    if target.quantized_operators is QuantizedOperators.ALL:
        options = tuple(sorted({**EIGHT_BITS, **dict(target.session_options)}.items()))
        return finish(_full_integer(canonical, quantization, lowering, target), stamp_of(source, options))
    model = lower(canonical, lowering, plan)
    # the quantizer's options rely on uint8 first operands; with signed ones they would pick reference kernels
    signed = form.activations is not ActivationType.UINT8 or form.style is GraphStyle.COMPILER
    own = {} if signed or plan is FLOAT else dict(quantization.session_options)
    if plan is not FLOAT and target.arithmetic is Arithmetic.EXACT:
        own |= EIGHT_BITS  # so that a CPU without VNNI is slower, and not wrong
    options = tuple(sorted({**own, **dict(target.session_options)}.items()))
    return finish(model, stamp_of(source, options))


def _full_integer(
    canonical: Canonical, quantization: Quantization, lowering: LowerSettings, target: TargetSpec
) -> onnx.ModelProto:
    """The file with every operator in integers."""
    if lowering.outputs != (LOGITS,):
        raise TargetError(f"target {target.name} runs classifiers only: choose another for embeddings")
    if quantization.full_integer is None:
        raise ValueError(f"target {target.name} needs a quantization made for integer arithmetic")
    return lower_full_integer(canonical, lowering, quantization.full_integer)


def settings_for(settings: QuantizeSettings, targets: Iterable[TargetSpec]) -> QuantizeSettings:
    """The settings with what the targets need a plan for."""
    integer = [target for target in targets if target.quantized_operators is not QuantizedOperators.NONE]
    arithmetics = dict.fromkeys(target.arithmetic for target in integer)
    return dataclasses.replace(settings, arithmetics=tuple(arithmetics) or settings.arithmetics)


def for_target(quantization: Quantization, target: TargetSpec) -> Quantization:
    """What of a quantization goes into a target's file: what the target computes in float stays float."""
    kind = target.form.float_type.value
    if target.quantized_operators is QuantizedOperators.NONE:
        return _without(quantization, None, f"target {target.name} computes everything in {kind}")
    if target.quantized_operators is QuantizedOperators.ALL:
        return _all_integer(quantization, target)
    taken = dataclasses.replace(quantization, arithmetic=target.arithmetic)
    if taken.arithmetic is Arithmetic.SATURATING:
        taken = dataclasses.replace(taken, layers=with_notes(taken.layers, taken.reduced))
    if target.integer_attention:
        return taken
    return _without(taken, taken.plan.attentions, f"target {target.name} computes attention in {kind}")


def _without(quantization: Quantization, names: Container[str] | None, reason: str) -> Quantization:
    """The quantization with these attentions, or with every layer, in float."""
    layers = tuple(
        dataclasses.replace(layer, form=Form.FLOAT, reason=reason)
        if names is None or layer.name in names
        else layer
        for layer in quantization.layers
    )
    plan = FLOAT if names is None else dataclasses.replace(quantization.plan, attentions={})
    return quantization.with_plan(plan, layers)


def _all_integer(quantization: Quantization, target: TargetSpec) -> Quantization:
    """The quantization with every layer in one static range, as nothing else is possible there."""
    kind = target.form.activations.value
    reason = f"target {target.name} computes every operator in integers, activations {kind}"
    layers = tuple(
        dataclasses.replace(layer, form=Form.STATIC, reason=reason, static_range="minimum and maximum")
        for layer in quantization.layers
        if layer.name != GELU
    )
    return dataclasses.replace(quantization, layers=layers)


def stamp_of(source: Source, session_options: Sequence[tuple[str, str]] = ()) -> Stamp:
    """What a file made from this source says about itself."""
    origin = source.name, source.sha256
    return Stamp(source.labels, source.preprocess, tuple(session_options), origin, source.output)


def at_versions(target: TargetSpec, versions: VersionsWanted) -> TargetSpec:
    """The target with files of the versions that were asked for."""
    return dataclasses.replace(target, form=target.form.at(versions))


def check_target(target: TargetSpec) -> None:
    """Refuse a target that asks for a number format that is not written.

    Raises:
        TargetError: weights of fewer bits, one scale for all channels; where some operators stay float,
            static activation ranges alone, or activations of 16 bits; an opset that cannot say the formats.
    """
    whole = target.quantized_operators is QuantizedOperators.ALL
    asked: dict[str, tuple[object, tuple[object, ...]]] = {
        "weight_bits": (target.weight_bits, (8,)),
        "per_channel": (target.per_channel, (True,)),
        "row_scales": (target.row_scales, (not whole,)),
        "activation_type": (
            target.form.activations.value,
            ("uint8", "int8", *(("uint16",) if whole else ())),
        ),
    }
    for key, (wanted, possible) in asked.items():
        if wanted not in possible:
            raise TargetError(
                f"target {target.name} asks for {key} {wanted}, but only {' or '.join(map(str, possible))} "
                "can be written: choose another target"
            )
    least, why = _least_opset(target)
    if target.form.versions.opset < least:
        raise TargetError(
            f"target {target.name} has {why}, which ONNX knows from opset {least} on, not in "
            f"{target.form.versions.opset}: ask for a newer opset, or choose another target"
        )


def _least_opset(target: TargetSpec) -> tuple[int, str]:
    """The oldest opset that can say what a target asks for, and what that is."""
    if target.quantized_operators is QuantizedOperators.ALL and target.form.activations.value == "uint16":
        return OPSET_16_BIT, "activations of 16 bits"
    if (
        target.quantized_operators is not QuantizedOperators.NONE
        and target.form.float_type is FloatType.FLOAT16
    ):
        return _OPSET_HALF_SCALES, "scales in float16"
    return OPSETS[0], "float32"


def possible_form(canonical: Canonical, form: ModelForm) -> ModelForm:
    """The form itself, or for a model that is not canonical the only one it can have."""
    if canonical.description is not None:
        return form
    return dataclasses.replace(form, batch=1, input=InputForm.PIXEL_VALUES)


def image_size(canonical: Canonical) -> tuple[int, int]:
    """Height and width of the image input, in pixels."""
    shape = canonical.model.graph.inputs[0].shape
    _, _, height, width = shape.numpy() if shape is not None else (0, 0, 0, 0)
    return int(height), int(width)


def _stamp_with(path: str | os.PathLike[str], model: onnx.ModelProto, options: SourceOptions) -> Stamp:
    """The file's own stamp, with what the options state in its place."""
    stamp = read_stamp(model, str(path))
    if options.labels is None and not options.changes_preprocessing:
        return stamp
    source = resolve(str(path), options)
    labels = stamp.labels if source.labels_note else source.labels
    return dataclasses.replace(stamp, labels=labels, preprocess=source.preprocess)
