"""What a target asks of a model, of its quantization, and of the file that is made for it."""

import dataclasses
from collections.abc import Container, Iterable

import numpy as np

from vit_edge.errors import TargetError
from vit_edge.host.lower.full_integer import OPSET_16_BIT
from vit_edge.host.lower.several import takes_any_batch
from vit_edge.host.plan import FLOAT, FullIntegerPlan
from vit_edge.host.quantize.plans import GELU
from vit_edge.host.quantize.reduced_range import with_notes
from vit_edge.host.quantize.types import Form, LayerDecision, Quantization, QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.spec import (
    OPSETS,
    ActivationType,
    Arithmetic,
    FloatType,
    GraphStyle,
    ModelForm,
    QuantizedOperators,
    TargetSpec,
    VersionsWanted,
)

PORTABLE_TARGET = "cpu"
WIDE = 16  # bits

_OPSET_HALF_SCALES = 19  # QuantizeLinear of float16


def at_versions(target: TargetSpec, versions: VersionsWanted) -> TargetSpec:
    """The target with files of the versions that were asked for."""
    return dataclasses.replace(target, form=target.form.at(versions))


def check_target(target: TargetSpec) -> None:
    """Refuse a target that asks for a number format that is not written.

    Raises:
        TargetError: weights of fewer bits, one scale for all channels; where some operators stay float,
            static activation ranges alone, or activations of 16 bits; an opset that cannot say the formats.
    """
    full_integer = target.quantized_operators is QuantizedOperators.ALL
    asked: dict[str, tuple[object, tuple[object, ...]]] = {
        "weight_bits": (target.weight_bits, (8,)),
        "per_channel": (target.per_channel, (True,)),
        "row_scales": (target.row_scales, (not full_integer,)),
        "activation_type": (
            target.form.activations.value,
            ("uint8", "int8", *(("uint16",) if full_integer else ())),
        ),
    }
    for key, (wanted, possible) in asked.items():
        if wanted not in possible:
            raise TargetError(
                f"target {target.name} asks for {key} {wanted}, but only {' or '.join(map(str, possible))} "
                "can be written: choose another target"
            )
    style = target.form.style
    if style in (GraphStyle.NATIVE, GraphStyle.CODES) and not _has_their_numbers(target):
        raise TargetError(
            f"target {target.name} asks for graph_style {style.value}, which takes activation_type uint8 "
            "without symmetric_activations, float_type float32 and quantized_operators linear or products"
        )
    least, why = _least_opset(target)
    if target.form.versions.opset < least:
        raise TargetError(
            f"target {target.name} has {why}, which ONNX knows from opset {least} on, not in "
            f"{target.form.versions.opset}: ask for a newer opset, or choose another target"
        )


def _has_their_numbers(target: TargetSpec) -> bool:
    """Whether the operators of vit-edge-kernels, and products with codes behind them, take such numbers."""
    form, operators = target.form, target.quantized_operators
    numbers = form.activations is ActivationType.UINT8 and not form.symmetric
    some = operators in (QuantizedOperators.LINEAR, QuantizedOperators.PRODUCTS)
    return numbers and some and form.float_type is FloatType.FLOAT32


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
    plan = quantization.full_integer
    narrow = frozenset() if plan is None else widths(plan, target).narrow
    layers = tuple(
        _decided(layer, target, narrow=layer.name in narrow)
        for layer in quantization.layers
        if layer.name != GELU
    )
    return dataclasses.replace(quantization, layers=layers)


def _decided(layer: LayerDecision, target: TargetSpec, *, narrow: bool) -> LayerDecision:
    """What becomes of a layer where every operator is integer."""
    kind = target.form.activations.value
    reason = f"target {target.name} computes every operator in integers, activations {kind}"
    if narrow:
        return dataclasses.replace(layer, form=Form.STATIC, reason=f"{reason}; its products read uint8")
    form = Form.WIDE if is_wide(target) else Form.STATIC
    return dataclasses.replace(layer, form=form, reason=reason, static_range="minimum and maximum")


def is_wide(target: TargetSpec) -> bool:
    """Whether activations have 16 bits."""
    return np.iinfo(target.form.activations.value).bits == WIDE


def widths(plan: FullIntegerPlan, target: TargetSpec) -> FullIntegerPlan:
    """The plan with the products that a target's file reads 8 bits for."""
    return plan.with_wide(target.wide_macs) if is_wide(target) else plan


def possible_form(canonical: Canonical, form: ModelForm) -> ModelForm:
    """The form itself, or with a batch of one for a model that does something across the axis of images."""
    return form if takes_any_batch(canonical) else dataclasses.replace(form, batch=1)
