"""The first half of a build: from a source to its float model and the search for INT8 forms."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from vit_edge.diagnosis import Finding
from vit_edge.host.bundling.images import BuildImages
from vit_edge.host.bundling.settings import FLOAT_MODEL, BuildSettings
from vit_edge.host.bundling.trial import on_disk
from vit_edge.host.convert.apart import canonical_of
from vit_edge.host.convert.export import export
from vit_edge.host.convert.for_target import (
    PORTABLE_TARGET,
    possible_form,
    settings_for,
)
from vit_edge.host.convert.int8 import metadata_of
from vit_edge.host.convert.onnx_io import finish, to_bytes
from vit_edge.host.convert.optimize import CheckImages, image_size, natural_pixels, optimized
from vit_edge.host.doctor.brief import inner_findings
from vit_edge.host.embedder.files import FloatEmbedder, float_embedder
from vit_edge.host.embedder.quantize import check_aims
from vit_edge.host.quantize.search import Search, search_of
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.merging import merged
from vit_edge.host.sources import Source
from vit_edge.manifest import Parity
from vit_edge.progress import Progress
from vit_edge.runtime.model.file import ModelFile
from vit_edge.spec import PORTABLE
from vit_edge.targets import load_target


@dataclasses.dataclass(frozen=True, eq=False)
class Converted:
    """The float model, and the search for its INT8 forms."""

    canonical: Canonical
    float_model: ModelFile
    search: Search
    parity: Mapping[str, Parity]
    embedder: FloatEmbedder | None
    findings: tuple[Finding, ...] = ()
    """Pitfalls that show inside."""


def convert(
    source: Source, settings: BuildSettings, images: BuildImages, folder: Path, progress: Progress
) -> Converted:
    """Export a source, write its float model, and look into what each layer loses in INT8.

    Args:
        source: from `resolve`.
        settings: of the build.
        images: those that calibrate are used.
        folder: for the float model.
        progress: told what is being done.

    Raises:
        VitEdgeError: as in `export`, `optimized` and `search_of`.
    """
    progress("export", 0, 1)
    exported, to_torch = export(source)
    progress("export", 1, 1)
    count = settings.merge_tokens
    canonical = canonical_of(
        source, exported, allow_uncanonical=settings.allow_uncanonical, key_bias=bool(count)
    )
    merged(canonical, count)  # refused before minutes of work
    natural = natural_pixels(images.calibration, source.preprocess, settings.quantize.limits)
    checked = CheckImages(image_size(canonical), source.preprocess, natural)
    portable = PORTABLE.at(settings.versions)
    findings = inner_findings(canonical, source.preprocess, natural)  # before anything is folded
    form = possible_form(canonical, portable)
    plain, to_export = optimized(exported, canonical, form, checked)
    float_model = on_disk(folder / FLOAT_MODEL, to_bytes(finish(plain, metadata_of(source)), FLOAT_MODEL))
    embedder = None
    if settings.embedder:
        embedder = float_embedder(exported, canonical, source, portable, settings.taps)
        check_aims(embedder.features, settings.embedder_for)
    wanted = settings_for(settings.quantize, [load_target(PORTABLE_TARGET), *settings.targets])
    search = search_of(canonical, images.calibration, source.preprocess, wanted, progress)
    parity = {"rewrite": to_export} if to_torch is None else {"export": to_torch, "rewrite": to_export}
    if embedder is not None:
        parity["embedder"] = embedder.parity
    return Converted(search.canonical, float_model, search, parity, embedder, findings)
