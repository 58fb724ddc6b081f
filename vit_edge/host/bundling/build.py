"""The main job: from a source and a folder of images to a bundle with its proof."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from vit_edge.fields import settle_members
from vit_edge.files import scratch_folder
from vit_edge.host.bundling.card import card
from vit_edge.host.bundling.golden import GOLDEN_IMAGES, golden_files
from vit_edge.host.bundling.proof import (
    BuildImages,
    Gate,
    choose_images,
    latency_records,
)
from vit_edge.host.bundling.records import accuracy_record, recipe_record, tool_versions
from vit_edge.host.bundling.select import Bench, Selected, SelectSettings, select
from vit_edge.host.bundling.trial import FileWanted, Tester, on_disk
from vit_edge.host.convert.apart import canonical_of
from vit_edge.host.convert.export import export
from vit_edge.host.convert.for_target import (
    PORTABLE_TARGET,
    at_versions,
    check_target,
    for_target,
    possible_form,
    settings_for,
)
from vit_edge.host.convert.int8 import mend_of, metadata_of
from vit_edge.host.convert.onnx_io import finish, to_bytes
from vit_edge.host.convert.optimize import CheckImages, image_size, natural_pixels, optimized
from vit_edge.host.embedder.bundled import BundledEmbedders, bundled_embedders
from vit_edge.host.embedder.files import FloatEmbedder, float_embedder
from vit_edge.host.quantize.search import Search, search_of
from vit_edge.host.quantize.types import QuantizeSettings
from vit_edge.host.reference.attempt import attempted
from vit_edge.host.reference.types import Reference
from vit_edge.host.report.bundled import bundle_report, measure_selected
from vit_edge.host.report.gather import Measured
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.sources import Source
from vit_edge.manifest import Parity, Repair, lowered_name
from vit_edge.progress import Progress
from vit_edge.runtime.measure.benchmark import BenchSettings, bench
from vit_edge.runtime.measure.timing import Rounds
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.session import Session, SessionSettings
from vit_edge.runtime.steps import Doing, explained
from vit_edge.source_parity import SourceParity
from vit_edge.spec import AS_WRITTEN, PORTABLE, TargetSpec, Tolerance, VersionsWanted
from vit_edge.targets import load_target

FLOAT_MODEL = "onnx/model.onnx"
QUANTIZED_MODEL = "onnx/model_quantized.onnx"


@dataclasses.dataclass(frozen=True)
class BuildSettings:
    """What `build_bundle` is to make, and from which images."""

    calibration: Path
    data: Path | None = None  # None: every fourth calibration image is held out and checks without labels
    class_ids: Path | None = None  # one id per class, where the folders of `data` are named so
    targets: tuple[TargetSpec, ...] = ()  # the first is the one that the bundle runs by default
    quantize: QuantizeSettings = dataclasses.field(default_factory=QuantizeSettings)
    tolerance: Tolerance = dataclasses.field(default_factory=Tolerance)
    versions: VersionsWanted = AS_WRITTEN  # of every model file, in place of the targets' own
    allow_uncanonical: bool = False
    embedder: bool = False  # whether the bundle gives embeddings, too
    threads: int | None = None  # of the check and of the benchmark; None leaves it to onnxruntime
    rounds: Rounds = dataclasses.field(default_factory=Rounds)
    repair: Repair = Repair.AUTO
    expect_top1: float | None = None  # percent that the float model must reach
    stated_top1: float | None = None  # percent that its card states
    bench: Bench = bench  # times the models
    reference: Reference | None = None  # answers for the source; None: its own library, where that runs

    def __post_init__(self) -> None:
        """Refuse a way to repair that there is not."""
        settle_members(self)


@dataclasses.dataclass(frozen=True, eq=False)
class _Converted:
    """The float model, and the search for its INT8 forms."""

    canonical: Canonical
    float_model: ModelFile
    search: Search
    parity: Mapping[str, Parity]
    embedder: FloatEmbedder | None


@dataclasses.dataclass(frozen=True, eq=False)
class _Built:
    """All that the bundle is about to hold."""

    converted: _Converted
    wanted: tuple[FileWanted, ...]  # portable INT8, then one per target with a form of its own
    selected: Selected
    golden: Mapping[str, bytes]
    providers: Mapping[str, float]
    embedders: BundledEmbedders
    measured: Measured  # for the report
    proof: SourceParity  # source -> float

    @property
    def models(self) -> dict[str, ModelFile]:
        """The model files of the bundle by name, the float one first."""
        return {FLOAT_MODEL: self.converted.float_model, **self.selected.files}

    @property
    def judged(self) -> FileWanted:
        """The INT8 file that figures speak of."""
        return next(each for each in self.wanted if each.name == self.selected.judged)

    @property
    def runs(self) -> str:
        """The file that runs by default."""
        return self.selected.runs or FLOAT_MODEL


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
        The bundle; its manifest's accuracy.report.verdict is what the images show.

    Raises:
        VitEdgeError: as in the steps; nothing is written then.
    """
    tell = Doing("read images", progress)
    settings = dataclasses.replace(
        settings, targets=tuple(at_versions(target, settings.versions) for target in settings.targets)
    )
    check_replaceable(Path(out))
    for target in settings.targets:
        check_target(target)
    images = choose_images(
        settings.calibration,
        settings.data,
        source.labels,
        settings.class_ids,
        settings.quantize.limits,
        source.output,
    )
    guarded = explained(source.name, tell, mend_of(settings.quantize))
    with scratch_folder() as folder, guarded:
        built = _build(source, settings, images, folder, tell)
    roles = {FLOAT_MODEL: Role.FLOAT} | {each.name: each.role for each in built.wanted}
    files = {name: (model.data, roles[name]) for name, model in built.models.items()}
    files |= {name: (data, Role.GOLDEN) for name, data in built.golden.items()}
    files |= built.embedders.files
    files["config.json"] = _json_bytes(source.huggingface_config), Role.CONFIG
    files["preprocessor_config.json"] = _json_bytes(source.preprocessor_config), Role.CONFIG
    selected, found = built.selected, built.selected.outcome.trial.quantization
    elsewhere = {name for name, each in selected.outcomes.items() if not each.timed_here}
    manifest = Manifest(
        files={name: FileEntry.of(data, role) for name, (data, role) in files.items()},
        default_model=built.runs,
        preprocess=source.preprocess,
        source=SourceRecord(source.name, source.sha256, source.notes),
        tools=tool_versions(),
        quantization=recipe_record(selected, built.wanted, built.embedders.record),
        layers=tuple(layer.record for layer in for_target(found, built.judged.target).layers),
        accuracy=accuracy_record(selected, FLOAT_MODEL, built.converted.parity, images),
        latency=latency_records(list(built.models), selected.timed, elsewhere),
        providers=built.providers,
        output=source.output,
        source_parity=built.proof,
    )
    documents = {"README.md": card(manifest, built.converted.canonical.description)}
    documents |= bundle_report(built.measured, built.judged.name, manifest, images.held_out, tell)
    written = {name: (text.encode(), Role.DOCUMENT) for name, text in documents.items()}
    entries = {name: FileEntry.of(data, role) for name, (data, role) in written.items()}
    complete = dataclasses.replace(manifest, files={**manifest.files, **entries})
    return write_bundle(out, {name: data for name, (data, _) in (files | written).items()}, complete)


def _build(
    source: Source, settings: BuildSettings, images: BuildImages, folder: Path, progress: Progress
) -> _Built:
    converted = _convert(source, settings, images, folder, progress)
    proof = attempted(source, settings.reference, converted.float_model.path, images.check, progress)
    wanted = _wanted(settings.targets, settings.versions)
    preferred = _preferred(settings.targets, wanted)
    gate = Gate(converted.float_model, images.check, settings.threads, progress)
    gate.check_float(settings.expect_top1, settings.stated_top1)
    tester = Tester(converted.canonical, source, wanted, gate, folder)
    session = SessionSettings("cpu", threads=settings.threads)
    timing = BenchSettings(session, rounds=settings.rounds)
    select_settings = SelectSettings(settings.tolerance, timing, settings.repair, settings.bench)
    selected = select(converted.search, tester, preferred, select_settings, progress)
    portable = selected.outcomes[QUANTIZED_MODEL]
    quantization = portable.trial.quantization if portable.kept else None
    embedders = bundled_embedders(
        converted.embedder, converted.search, quantization, source, wanted[0].target, images.check
    )
    measured = measure_selected(FLOAT_MODEL, converted.float_model, selected, timing, settings.bench)
    built = _Built(converted, wanted, selected, {}, {}, embedders, measured, proof)
    gate.remember([model for name, model in built.models.items() if name != FLOAT_MODEL])
    pixels = natural_pixels(images.check.paths, source.preprocess, images.check.limits, GOLDEN_IMAGES)
    features = {name: on_disk(folder / name, data) for name, (data, _) in embedders.files.items()}
    return dataclasses.replace(
        built,
        golden=golden_files([built.models, features], pixels),
        providers=dict(Session(built.models[built.runs], session).placement.shares),
    )


def _convert(
    source: Source, settings: BuildSettings, images: BuildImages, folder: Path, progress: Progress
) -> _Converted:
    progress("export", 0, 1)
    exported, to_torch = export(source)
    progress("export", 1, 1)
    canonical = canonical_of(source, exported, allow_uncanonical=settings.allow_uncanonical)
    natural = natural_pixels(images.calibration, source.preprocess, settings.quantize.limits)
    checked = CheckImages(image_size(canonical), source.preprocess, natural)
    portable = PORTABLE.at(settings.versions)
    form = possible_form(canonical, portable)
    plain, to_export = optimized(exported, canonical, form, checked)
    float_model = on_disk(folder / FLOAT_MODEL, to_bytes(finish(plain, metadata_of(source)), FLOAT_MODEL))
    embedder = float_embedder(exported, canonical, source, portable) if settings.embedder else None
    wanted = settings_for(settings.quantize, [load_target(PORTABLE_TARGET), *settings.targets])
    search = search_of(canonical, images.calibration, source.preprocess, wanted, progress)
    parity = {"rewrite": to_export} if to_torch is None else {"export": to_torch, "rewrite": to_export}
    if embedder is not None:
        parity["embedder"] = embedder.parity
    return _Converted(search.canonical, float_model, search, parity, embedder)


def _wanted(targets: Sequence[TargetSpec], versions: VersionsWanted) -> tuple[FileWanted, ...]:
    """The INT8 files to write: the portable one, and one for each target that asks for another form."""
    portable = at_versions(load_target(PORTABLE_TARGET), versions)
    own = [
        FileWanted(lowered_name(target.name), Role.LOWERED, target)
        for target in targets
        if target.file != portable.file
    ]
    return FileWanted(QUANTIZED_MODEL, Role.QUANTIZED, portable), *own


def _preferred(targets: Sequence[TargetSpec], wanted: Sequence[FileWanted]) -> FileWanted:
    """That of the first target, or the portable one where that has none of its own."""
    own = [each for each in wanted if targets and each.target.name == targets[0].name]
    return own[0] if own else wanted[0]


def _json_bytes(content: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(content, indent=2, allow_nan=False).encode()
    except (ValueError, TypeError) as error:
        raise UsageError(f"the source's configuration cannot be written as JSON ({error})") from None
