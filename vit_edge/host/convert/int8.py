"""From a quantization to the finished INT8 file for one target."""

import dataclasses
from collections.abc import Sequence

import onnx

from vit_edge.errors import TargetError, UsageError
from vit_edge.host.convert.for_target import for_target, possible_form, widths
from vit_edge.host.convert.onnx_io import finish
from vit_edge.host.convert.optimize import normalisation_of
from vit_edge.host.kernels.convert import to_kernels
from vit_edge.host.lower.conv import is_plain_conv
from vit_edge.host.lower.full_integer import lower_full_integer
from vit_edge.host.lower.model import LowerSettings, lower
from vit_edge.host.plan import FLOAT
from vit_edge.host.quantize.observe import EIGHT_BITS
from vit_edge.host.quantize.probe import decibels
from vit_edge.host.quantize.search import Search
from vit_edge.host.quantize.types import Quantization, QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical, Merging, is_dense
from vit_edge.host.sources import Source
from vit_edge.runtime.model.metadata import ModelMetadata
from vit_edge.spec import ActivationType, Arithmetic, GraphStyle, ModelForm, QuantizedOperators, TargetSpec


def quantized(
    canonical: Canonical,
    quantization: Quantization,
    target: TargetSpec,
    source: Source,
    outputs: tuple[str, ...] = (),
    attention: str = "",
) -> onnx.ModelProto:
    """The finished INT8 file for one target; `outputs` and `attention` as in `LowerSettings`."""
    plan, merging = for_target(quantization, target).plan, canonical.merging
    form, native = _lowered_form(canonical, target), target.form.style is GraphStyle.NATIVE
    lowering = LowerSettings(form, normalisation_of(source.preprocess), outputs, attention)
    if target.quantized_operators is QuantizedOperators.ALL:
        options = tuple(sorted({**EIGHT_BITS, **dict(target.session_options)}.items()))
        check_merges_in_float(target, 0 if merging is None else merging.count)
        return finish(_full_integer(canonical, quantization, lowering, target), metadata_of(source, options))
    model = lower(canonical, lowering, plan)
    # the quantizer's options rely on uint8 first operands; with signed ones they would pick reference kernels
    signed = form.activations is not ActivationType.UINT8 or form.style is GraphStyle.COMPILER
    own = {} if signed or plan is FLOAT else dict(quantization.session_options)
    if plan is not FLOAT and target.arithmetic is Arithmetic.EXACT:
        own |= EIGHT_BITS  # so that a CPU without VNNI is slower, and not wrong
    if native:
        model = to_kernels(model)[0]
    options = tuple(sorted({**own, **dict(target.session_options)}.items()))
    return finish(model, metadata_of(source, options, merging))


def _lowered_form(canonical: Canonical, target: TargetSpec) -> ModelForm:
    """What the graph is written as; one for own kernels is made of that for onnxruntime's."""
    form = possible_form(canonical, target.form)
    native = form.style is GraphStyle.NATIVE
    return dataclasses.replace(form, style=GraphStyle.KERNELS) if native else form


def check_merges_in_float(target: TargetSpec, count: int) -> None:
    """Refuse to merge tokens where there is no floating point to merge them in.

    Raises:
        TargetError: the target computes every operator in integers.
    """
    if count and target.quantized_operators is QuantizedOperators.ALL:
        raise TargetError(
            f"target {target.name} computes every operator in integers, and tokens are merged in floating "
            "point: leave --merge-tokens out, or choose another target"
        )


def check_grid_kept(count: int, option: str) -> None:
    """Refuse to merge tokens beside what wants one for each patch.

    Raises:
        UsageError: names the option.
    """
    if count:
        raise UsageError(f"--merge-tokens leaves no grid of patches, which {option} gives: leave one out")


def _full_integer(
    canonical: Canonical, quantization: Quantization, lowering: LowerSettings, target: TargetSpec
) -> onnx.ModelProto:
    """The file with every operator in integers."""
    if lowering.attention:
        raise TargetError(f"target {target.name} has no attention to look at: choose another for --attention")
    if lowering.outputs or is_dense(canonical) or any(map(is_plain_conv, canonical.model.graph)):
        raise TargetError(f"target {target.name} runs canonical ViT classifiers only: choose another one")
    if quantization.full_integer is None:
        raise ValueError(f"target {target.name} needs a quantization made for integer arithmetic")
    return lower_full_integer(canonical, lowering, widths(quantization.full_integer, target))


def as_written(search: Search, canonical: Canonical, taken: Quantization, target: TargetSpec) -> Quantization:
    """What was taken for a target, with the noise that its file does where that is another model's.

    With every operator in integers the file has little in common with that in which forms were chosen; and
    one whose tokens merge differs by more than its integers.

    Args:
        search: in which forms were chosen.
        canonical: what is written.
        taken: of the search.
        target: of the file.
    """
    form = dataclasses.replace(_lowered_form(canonical, target), batch=1, input=search.lowering.form.input)
    lowering = dataclasses.replace(search.lowering, form=form)
    if target.quantized_operators is QuantizedOperators.ALL and taken.full_integer is not None:
        model = lower_full_integer(canonical, lowering, widths(taken.full_integer, target))
    elif canonical.merging is not None:
        model = lower(canonical, lowering, taken.plan, check=False)
    else:
        return taken
    return remeasured(search, taken, model)


def remeasured(search: Search, taken: Quantization, model: onnx.ModelProto) -> Quantization:
    """A quantization with the noise of this model, which is another than the search looked at."""
    noise = search.probe.noise_of(model)
    recipe = dataclasses.replace(taken.recipe, probe_db=round(decibels(noise), 2), target_db=None)
    return dataclasses.replace(taken, recipe=recipe)


def metadata_of(
    source: Source, session_options: Sequence[tuple[str, str]] = (), merging: Merging | None = None
) -> ModelMetadata:
    """What a file made from this source says about itself."""
    origin, options = (source.name, source.sha256), tuple(session_options)
    merged = 0 if merging is None else merging.count
    return ModelMetadata(source.labels or None, source.preprocess, options, origin, source.output, merged)


def mend_of(settings: QuantizeSettings) -> str:
    """What to do where a library failed while a model was quantized."""
    kept = f"what calibration saw is kept in {settings.cache}; " if settings.cache is not None else ""
    return f"{kept}try fewer threads or images if memory ran out, else report this model"
