"""The main job: from a source and a folder of images to a bundle with its proof."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from vit_edge.bundle import Bundle, check_replaceable
from vit_edge.errors import UsageError
from vit_edge.files import scratch_folder
from vit_edge.host.bundling.beside import files_beside
from vit_edge.host.bundling.convert import convert
from vit_edge.host.bundling.gates import gate_for
from vit_edge.host.bundling.golden import GOLDEN_IMAGES, golden_files
from vit_edge.host.bundling.images import BuildImages, images_for, too_few
from vit_edge.host.bundling.select import SelectSettings, select
from vit_edge.host.bundling.settings import FLOAT_MODEL, QUANTIZED_MODEL, BuildSettings
from vit_edge.host.bundling.trial import Tester, on_disk
from vit_edge.host.bundling.wanted import check_merging, preferred_file, settled, wanted_files
from vit_edge.host.bundling.write import Built, write
from vit_edge.host.compilers.known import check_compiler
from vit_edge.host.convert.int8 import mend_of
from vit_edge.host.convert.optimize import natural_pixels
from vit_edge.host.doctor.brief import outer_findings
from vit_edge.host.embedder.bundled import EmbedderGate, bundled_embedders
from vit_edge.host.reference.attempt import attempted
from vit_edge.host.report.bundled import measure_selected
from vit_edge.host.sources import Source
from vit_edge.manifest import Repair
from vit_edge.progress import Progress
from vit_edge.runtime.measure.benchmark import BenchSettings
from vit_edge.runtime.session.session import Session, SessionSettings
from vit_edge.runtime.steps import Doing, explained
from vit_edge.spec import OutputKind


def build_bundle(
    source: Source,
    settings: BuildSettings,
    out: str | os.PathLike[str],
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> Bundle:
    """Export, rewrite, quantize, check, time and write; the bundle is written whatever the verdict.

    Args:
        source: from `resolve`.
        settings: images, targets and tolerance.
        out: the bundle's folder; an existing bundle is replaced.
        progress: told what is being done and how far it is.
        note: told, before any work, where the check images are too few for any model to pass.

    Returns:
        The bundle; its manifest's accuracy.report.verdict is what the images show.

    Raises:
        VitEdgeError: as in the steps; nothing is written then.
    """
    tell = Doing("read images", progress)
    settings = dataclasses.replace(settings, targets=settled(settings.targets, settings.versions))
    check_replaceable(Path(out))
    if settings.embedder and source.output.task is OutputKind.EMBEDDING:
        raise UsageError(
            f"{source.name} gives embeddings itself: leave --embedder out; vit-edge export --embedder writes "
            "its tokens"
        )
    check_merging(settings)
    if settings.compiler is not None:
        check_compiler(settings.compiler, settings.targets)
    images = images_for(source, settings)
    few = too_few(source, settings, images.check)
    if few is not None and note is not None:
        note(few)
    guarded = explained(source.name, tell, mend_of(settings.quantize))
    with scratch_folder() as folder, guarded:
        built = _build(source, settings, images, folder, tell)
    return write(built, source, images, out, tell)


def _build(
    source: Source, settings: BuildSettings, images: BuildImages, folder: Path, progress: Progress
) -> Built:
    converted = convert(source, settings, images, folder, progress)
    proof = attempted(source, settings.reference, converted.float_model.path, images.check, progress)
    wanted = wanted_files(settings.targets, settings.versions)
    preferred = preferred_file(settings.targets, wanted)
    gate = gate_for(converted.float_model, settings, images.check, progress)
    gate.check_float(settings.expect_top1, settings.stated_top1)
    findings = converted.findings
    if gate.logits is not None:  # as of a classifier, which `check_float` has run
        findings = (*outer_findings(converted.float_model, gate.logits, gate.images), *findings)
    tester = Tester(converted.canonical, source, wanted, gate, folder)
    session = SessionSettings("cpu", threads=settings.threads)
    timing = BenchSettings(session, rounds=settings.rounds)
    select_settings = SelectSettings(
        settings.tolerance, timing, settings.repair, settings.bench, settings.merge_tokens
    )
    selected = select(converted.search, tester, preferred, select_settings, progress)
    portable = selected.outcomes[QUANTIZED_MODEL]
    quantization = portable.trial.quantization if portable.kept else None
    judged = EmbedderGate(
        images.check,
        settings.embedding_tolerance,
        session,
        folder,
        used=settings.embedder_for,
        keep_failing=settings.repair is Repair.NEVER,
        progress=progress,
    )
    embedders = bundled_embedders(
        converted.embedder, converted.search, quantization, source, wanted[0].target, judged
    )
    measured = measure_selected(FLOAT_MODEL, converted.float_model, selected, timing, settings.bench)
    beside = files_beside(
        selected.files,
        wanted,
        converted.search,
        source.preprocess,
        settings,
        progress,
        folder,
    )
    built = Built(converted, wanted, selected, {}, {}, embedders, measured, proof, beside, findings)
    gate.remember([model for name, model in built.models.items() if name != FLOAT_MODEL])
    pixels = natural_pixels(images.check.paths, source.preprocess, images.check.limits, GOLDEN_IMAGES)
    features = {name: on_disk(folder / name, data) for name, (data, _) in embedders.files.items()}
    return dataclasses.replace(
        built,
        golden=golden_files([built.models, features], pixels),
        providers=dict(Session(built.models[built.runs], session).placement.shares),
    )
