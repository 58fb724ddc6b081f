"""From the table of a target to its TargetSpec: all keys but `predicted` are required, all values checked.

A target may only ask for number formats that its provider says it can run.
"""

import dataclasses
import enum
from typing import Any, TypeVar

from vit_edge import fields, plain
from vit_edge.spec import (
    IR_VERSIONS,
    OPSETS,
    ActivationType,
    Batch,
    FloatType,
    GraphStyle,
    InputForm,
    ModelForm,
    OnnxVersions,
    Packaging,
    PredictedLatency,
    ProviderRuns,
    ProviderSpec,
    QuantizedOperators,
    Requirements,
    TargetSpec,
    Verification,
    VerificationState,
    session_options,
)

_FORM = frozenset(
    {
        "batch",
        "input_form",
        "activation_type",
        "symmetric_activations",
        "graph_style",
        "float_type",
        "opset",
        "ir_version",
    }
)
KEYS = frozenset(field.name for field in dataclasses.fields(TargetSpec)) - {"name", "form"} | _FORM

_OPTIONAL = frozenset({"predicted"})

_WEIGHT_BITS = (4, 7, 8)
_SIGNED = (ActivationType.INT8, ActivationType.INT16)
_DEVICES = ("npu", "gpu", "cpu")
_MAX_PRIORITY = 1000

E = TypeVar("E", bound=enum.Enum)
V = TypeVar("V")


def read_spec(name: str, table: dict[str, Any]) -> TargetSpec:
    """The target that a complete table describes.

    Raises:
        ValueError: a missing or unknown key, a value that its key cannot have, or a number format that the
            provider cannot run; the message names the key.
    """
    raw = fields.exact_keys(table, KEYS - _OPTIONAL, "the target", _OPTIONAL)
    spec = TargetSpec(
        name=name,
        title=fields.string(raw["title"], "title"),
        description=fields.string(raw["description"], "description"),
        provider=_provider(raw["provider"]),
        form=_form(raw),
        weight_type=fields.choice(raw["weight_type"], "weight_type", ("int8",)),
        weight_bits=fields.choice(raw["weight_bits"], "weight_bits", _WEIGHT_BITS),
        per_channel=fields.boolean(raw["per_channel"], "per_channel"),
        saturating=fields.boolean(raw["saturating"], "saturating"),
        quantized_operators=_member(QuantizedOperators, raw["quantized_operators"], "quantized_operators"),
        row_scales=fields.boolean(raw["row_scales"], "row_scales"),
        wide_macs=fields.share(raw["wide_macs"], "wide_macs"),
        session_options=session_options(raw["session_options"]),
        requires=plain.read(Requirements, raw["requires"], "requires"),
        priority=fields.integer(raw["priority"], "priority", 0, _MAX_PRIORITY),
        verification=_verifications(raw["verification"]),
        predicted=tuple(map(_predicted, fields.sequence(raw.get("predicted", []), "predicted"))),
    )
    _check_runs(spec)
    return spec


def _form(raw: dict[str, Any]) -> ModelForm:
    return ModelForm(
        batch=1 if _member(Batch, raw["batch"], "batch") is Batch.FIXED else None,
        input=_member(InputForm, raw["input_form"], "input_form"),
        activations=_member(ActivationType, raw["activation_type"], "activation_type"),
        symmetric=fields.boolean(raw["symmetric_activations"], "symmetric_activations"),
        style=_member(GraphStyle, raw["graph_style"], "graph_style"),
        float_type=_member(FloatType, raw["float_type"], "float_type"),
        versions=OnnxVersions(
            fields.integer(raw["opset"], "opset", OPSETS[0], OPSETS[-1]),
            fields.integer(raw["ir_version"], "ir_version", IR_VERSIONS[0], IR_VERSIONS[-1]),
        ),
    )


def _provider(raw: object) -> ProviderSpec:
    optional = frozenset({"module", "extra"})
    table = fields.exact_keys(raw, _names(ProviderSpec) - optional, "provider", optional)
    packaging = _member(Packaging, table["packaging"], "provider.packaging")
    if (packaging is Packaging.PLUGIN) is not ("module" in table):
        raise ValueError("provider.module goes with packaging plugin, and with no other")
    return ProviderSpec(
        name=_lower(table["name"], "provider.name"),
        packaging=packaging,
        package=fields.string(table["package"], "provider.package"),
        module=_optional(table, "module"),
        extra=_optional(table, "extra"),
        devices=tuple(
            fields.choice(item, "provider.devices", _DEVICES)
            for item in fields.sequence(table["devices"], "provider.devices")
        ),
        contexts=fields.boolean(table["contexts"], "provider.contexts"),
        options=_options(table["options"]),
        runs=plain.read(ProviderRuns, table["runs"], "provider.runs"),
    )


def _verifications(raw: object) -> tuple[Verification, ...]:
    found = tuple(_verification(item) for item in fields.sequence(raw, "verification"))
    if not found:
        raise ValueError("verification needs at least one entry; say unverified, and why")
    return found


def _verification(raw: object) -> Verification:
    found = plain.read(Verification, raw, "verification")
    if (found.state is VerificationState.UNVERIFIED) is (found.where is not None):
        raise ValueError("verification.where is needed for what was run, and has no place where nothing was")
    return found


def _predicted(raw: object) -> PredictedLatency:
    found = plain.read(PredictedLatency, raw, "predicted")
    if not 0 < found.least <= found.ratio <= found.most:
        raise ValueError(
            f"predicted.ratio must lie between least and most, got {found.least}, {found.ratio}, {found.most}"
        )
    return found


def _check_runs(spec: TargetSpec) -> None:
    """Refuse what the provider says it cannot run."""
    runs, provider, form = spec.provider.runs, spec.provider.name, spec.form
    asked: list[tuple[str, object, tuple[object, ...]]] = [
        ("float_type", form.float_type, runs.float_types),
        ("batch", form.sizes, runs.batches),
    ]
    if spec.quantized_operators is not QuantizedOperators.NONE:
        asked.append(("activation_type", form.activations, runs.activation_types))
        asked.append(("weight_bits", spec.weight_bits, runs.weight_bits))
        if not form.symmetric and not runs.asymmetric:
            raise ValueError(f"symmetric_activations must be true for provider {provider}")
        if form.symmetric and form.activations not in _SIGNED:
            raise ValueError("symmetric_activations go with a signed activation_type")
        if form.symmetric and form.input is InputForm.PIXELS:
            raise ValueError("symmetric_activations go with input_form pixel_values: pixels are unsigned")
    if spec.quantized_operators is QuantizedOperators.ALL and not (
        form.sizes is Batch.FIXED and form.input is InputForm.PIXELS
    ):
        raise ValueError("quantized_operators all goes with batch fixed and input_form pixels")
    for key, wanted, possible in asked:
        if wanted not in possible:
            able = ", ".join(map(_word, possible)) or "none"
            raise ValueError(f"{key} {_word(wanted)} is not what provider {provider} runs, which is {able}")


def _options(raw: object) -> tuple[tuple[str, str], ...]:
    where = "provider.options"
    table = fields.mapping(raw, where)
    return tuple(sorted((key, fields.string(value, f"{where}.{key}")) for key, value in table.items()))


def _optional(table: dict[str, Any], key: str) -> str | None:
    return fields.string(table[key], f"provider.{key}") if key in table else None


def _lower(raw: object, where: str) -> str:
    text = fields.string(raw, where)
    if text != text.lower():
        raise ValueError(f"{where} must be in lower case, got {fields.shown(text)}")
    return text


def _member(kind: type[E], raw: object, where: str) -> E:
    return kind(fields.choice(raw, where, tuple(member.value for member in kind)))


def _names(kind: type) -> frozenset[str]:
    return frozenset(field.name for field in dataclasses.fields(kind))


def _word(value: object) -> str:
    return str(value.value if isinstance(value, enum.Enum) else value)
