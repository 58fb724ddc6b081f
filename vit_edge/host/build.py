"""The main job: from a source and a folder of images to a bundle with its proof."""

import dataclasses
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vit_edge import __version__
from vit_edge.bundle import (
    Bundle,
    FileEntry,
    Manifest,
    Role,
    SourceRecord,
    check_replaceable,
    write_bundle,
)
from vit_edge.errors import UsageError
from vit_edge.host.cards import card
from vit_edge.host.export import export
from vit_edge.host.onnx_io import finish, to_bytes
from vit_edge.host.optimize import PORTABLE, CheckImages, FileForm, natural_pixels, optimized
from vit_edge.host.parity import Parity
from vit_edge.host.pipeline import (
    PORTABLE_TARGET,
    check_target,
    for_target,
    image_size,
    possible_form,
    quantized,
    stamp_of,
)
from vit_edge.host.proof import (
    GOLDEN_IMAGES,
    BuildImages,
    choose_images,
    golden_files,
    judge_all,
    latency_records,
    worst_verdict,
)
from vit_edge.host.quantize.quantize import quantize
from vit_edge.host.quantize.types import Progress, Quantization, QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical, canonicalise
from vit_edge.host.sources import Source
from vit_edge.runtime.benchmark import BenchSettings
from vit_edge.runtime.model import ModelFile, read_model
from vit_edge.runtime.session import Session, SessionSettings
from vit_edge.runtime.timing import Rounds
from vit_edge.spec import TargetSpec, Tolerance
from vit_edge.targets import load_target
from vit_edge.verify import GateReport

FLOAT_MODEL = "onnx/model.onnx"
QUANTIZED_MODEL = "onnx/model_quantized.onnx"

_TOOLS = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy", "pillow")


@dataclasses.dataclass(frozen=True)
class BuildSettings:
    """What `build_bundle` is to make, and from which images."""

    calibration: Path
    data: Path | None = None  # None: every fourth calibration image is held out and checks without labels
    class_ids: Path | None = None  # one id per class, where the folders of `data` are named so
    targets: tuple[TargetSpec, ...] = ()  # the first is the one that the bundle runs by default
    quantize: QuantizeSettings = dataclasses.field(default_factory=QuantizeSettings)
    tolerance: Tolerance = dataclasses.field(default_factory=Tolerance)
    allow_uncanonical: bool = False
    threads: int | None = None  # of the check and of the benchmark; None leaves it to onnxruntime
    rounds: Rounds = dataclasses.field(default_factory=Rounds)


@dataclasses.dataclass(frozen=True)
class _Model:
    """One model file of the bundle."""

    name: str  # path in the bundle
    role: Role
    data: bytes
    target: TargetSpec


@dataclasses.dataclass(frozen=True)
class _Converted:
    """The models, and what is known from making them."""

    models: tuple[_Model, ...]  # float, portable INT8, then one per target with a form of its own
    canonical: Canonical
    quantization: Quantization
    parity: Mapping[str, Parity]


@dataclasses.dataclass(frozen=True)
class _Measured:
    """What was measured on the models."""

    reports: tuple[GateReport, ...]  # one per INT8 model
    latency: tuple[dict[str, Any], ...]
    golden: Mapping[str, bytes]
    providers: Mapping[str, float]


def build_bundle(
    source: Source, settings: BuildSettings, out: str | os.PathLike[str], progress: Progress | None = None
) -> Bundle:
    """Export, rewrite, quantize, check, time and write; the bundle is written whatever the verdict.

    Args:
        source: from `resolve`.
        settings: images, targets and tolerance.
        out: the bundle's folder; an existing bundle is replaced.
        progress: told what is being done and how far it is.

    Returns:
        The bundle; its manifest's accuracy["verdict"] is what the images show.

    Raises:
        VitEdgeError: as in the steps; nothing is written then.
    """
    tell = progress or _silent
    check_replaceable(Path(out))
    for target in settings.targets:
        check_target(target)
    images = choose_images(settings.calibration, settings.data, source.labels, settings.class_ids)
    converted = _convert(source, settings, images, tell)
    chosen = _default_model(settings, converted.models)
    default = chosen.name
    measured = _measure(converted, default, settings, images, source, tell)
    files = {model.name: (model.data, model.role) for model in converted.models}
    files |= {name: (data, Role.GOLDEN) for name, data in measured.golden.items()}
    files["config.json"] = _json_bytes(source.huggingface_config), Role.CONFIG
    files["preprocessor_config.json"] = _json_bytes(source.preprocessor_config), Role.CONFIG
    manifest = Manifest(
        files={name: FileEntry.of(data, role) for name, (data, role) in files.items()},
        default_model=default,
        preprocess=source.preprocess,
        source=SourceRecord(source.name, source.sha256),
        tools=_tool_versions(),
        quantization=converted.quantization.recipe | {"models": _forms(converted.models[1:])},
        layers=tuple(layer.to_json() for layer in for_target(converted.quantization, chosen.target).layers),
        accuracy=_accuracy(converted, default, measured, settings, images),
        latency=measured.latency,
        providers=measured.providers,
    )
    text = card(manifest, source.labels_note, converted.canonical.description).encode()
    files["README.md"] = text, Role.DOCUMENT
    complete = dataclasses.replace(
        manifest, files={**manifest.files, "README.md": FileEntry.of(text, Role.DOCUMENT)}
    )
    return write_bundle(out, {name: data for name, (data, _) in files.items()}, complete)


def _convert(source: Source, settings: BuildSettings, images: BuildImages, progress: Progress) -> _Converted:
    progress("export", 0, 1)
    exported, to_torch = export(source)
    progress("export", 1, 1)
    canonical = canonicalise(exported, source.name, allow_uncanonical=settings.allow_uncanonical)
    natural = natural_pixels(images.calibration, source.preprocess)
    checked = CheckImages(image_size(canonical), source.preprocess, natural)
    form = possible_form(canonical, PORTABLE)
    plain, to_export = optimized(exported, canonical, form, checked)
    quantization = quantize(canonical, images.calibration, source.preprocess, settings.quantize, progress)
    portable = load_target(PORTABLE_TARGET)
    forms = [(QUANTIZED_MODEL, Role.QUANTIZED, portable)]
    forms += [
        (f"onnx/model_{target.name}.onnx", Role.LOWERED, target)
        for target in settings.targets
        if FileForm.of(target) != PORTABLE or target.integer_attention != portable.integer_attention
    ]
    float_bytes = to_bytes(finish(plain, stamp_of(source)), FLOAT_MODEL)
    models = [_Model(FLOAT_MODEL, Role.FLOAT, float_bytes, portable)]
    models += [
        _Model(name, role, to_bytes(quantized(canonical, quantization, target, source), name), target)
        for name, role, target in forms
    ]
    parity = {"rewrite": to_export} if to_torch is None else {"export": to_torch, "rewrite": to_export}
    return _Converted(tuple(models), canonical, quantization, parity)


def _measure(
    converted: _Converted,
    default: str,
    settings: BuildSettings,
    images: BuildImages,
    source: Source,
    progress: Progress,
) -> _Measured:
    names = [model.name for model in converted.models]
    with tempfile.TemporaryDirectory(prefix="vit-edge-") as folder:
        models = [_on_disk(Path(folder), model) for model in converted.models]
        reports = judge_all(models, images.check, settings.tolerance, settings.threads, progress)
        progress("benchmark", 0, 1)
        session = SessionSettings("cpu", threads=settings.threads)
        latency = latency_records(names, models, BenchSettings(session, rounds=settings.rounds))
        progress("benchmark", 1, 1)
        pixels = natural_pixels(images.check.paths, source.preprocess, GOLDEN_IMAGES)
        golden = golden_files(names, models, pixels)
        placement = Session(models[names.index(default)], session).placement
    return _Measured(tuple(reports), tuple(latency), golden, dict(placement.shares))


def _default_model(settings: BuildSettings, models: Sequence[_Model]) -> _Model:
    """That of the first target, or the portable one where that has none of its own."""
    first = settings.targets[0].name if settings.targets else PORTABLE_TARGET
    own = [model for model in models[1:] if model.target.name == first]
    return own[0] if own else models[1]


def _accuracy(
    converted: _Converted, default: str, measured: _Measured, settings: BuildSettings, images: BuildImages
) -> dict[str, Any]:
    """The default model's figures, the worst verdict of all, and the figures of each."""
    names = [model.name for model in converted.models[1:]]
    by_name = {name: report.to_json() for name, report in zip(names, measured.reports, strict=True)}
    return by_name[default] | {
        "verdict": worst_verdict(measured.reports).value,
        "model": default,
        "reference": FLOAT_MODEL,
        "data": images.to_json(),
        "tolerance": dataclasses.asdict(settings.tolerance),
        "models": by_name,
        "parity": {step: dataclasses.asdict(parity) for step, parity in converted.parity.items()},
    }


def _forms(models: Sequence[_Model]) -> dict[str, dict[str, Any]]:
    """Per INT8 file, what it was made for."""
    return {
        model.name: {
            "target": model.target.name,
            "integer_attention": model.target.integer_attention,
            "activations": model.target.activation_type.value,
        }
        for model in models
    }


def _on_disk(folder: Path, model: _Model) -> ModelFile:
    path = folder / model.name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model.data)
    return read_model(path)


def _tool_versions() -> dict[str, str]:
    versions = {"vit-edge": __version__}
    for tool in _TOOLS:
        try:
            versions[tool] = importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:
            versions[tool] = "not installed as a package"
    return versions


def _json_bytes(content: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(content, indent=2, allow_nan=False).encode()
    except (ValueError, TypeError) as error:
        raise UsageError(f"the source's configuration cannot be written as JSON ({error})") from None


def _silent(what: str, done: int, total: int) -> None:
    """No progress is wanted."""
