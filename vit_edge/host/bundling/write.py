"""The end of a build: manifest, card and report, and the bundle that holds them."""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from vit_edge.bundle import (
    Bundle,
    FileEntry,
    Manifest,
    Role,
    SourceRecord,
    write_bundle,
)
from vit_edge.diagnosis import Finding
from vit_edge.errors import UsageError
from vit_edge.host.bundling.beside import Beside
from vit_edge.host.bundling.card import card
from vit_edge.host.bundling.convert import Converted
from vit_edge.host.bundling.images import BuildImages
from vit_edge.host.bundling.proof import latency_records
from vit_edge.host.bundling.records import accuracy_record, recipe_record, tool_versions
from vit_edge.host.bundling.select import Selected
from vit_edge.host.bundling.settings import FLOAT_MODEL
from vit_edge.host.bundling.trial import FileWanted
from vit_edge.host.convert.for_target import (
    for_target,
)
from vit_edge.host.embedder.bundled import BundledEmbedders
from vit_edge.host.report.bundled import bundle_report
from vit_edge.host.report.gather import Measured
from vit_edge.host.sources import Source
from vit_edge.progress import Progress
from vit_edge.runtime.model.file import ModelFile
from vit_edge.source_parity import SourceParity


@dataclasses.dataclass(frozen=True, eq=False)
class Built:
    """All that the bundle is about to hold."""

    converted: Converted
    wanted: tuple[FileWanted, ...]
    """Portable INT8, then one per target with a form of its own."""
    selected: Selected
    golden: Mapping[str, bytes]
    providers: Mapping[str, float]
    embedders: BundledEmbedders
    measured: Measured
    """For the report."""
    proof: SourceParity
    """Source -> float."""
    beside: Beside
    """What compilers are told, and what they made."""
    findings: tuple[Finding, ...] = ()
    """Known pitfalls of the float model."""

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


def write(
    built: Built, source: Source, images: BuildImages, out: str | os.PathLike[str], progress: Progress
) -> Bundle:
    """Write the bundle with its manifest, card and report.

    Args:
        built: from a build.
        source: what it was built from.
        images: what calibrated and checked it.
        out: the bundle's folder.
        progress: told what is being done.

    Raises:
        VitEdgeError: as in `bundle_report` and `write_bundle`.
    """
    roles = {FLOAT_MODEL: Role.FLOAT} | {each.name: each.role for each in built.wanted}
    files = {name: (model.data, roles[name]) for name, model in built.models.items()}
    files |= {name: (data, Role.GOLDEN) for name, data in built.golden.items()}
    files |= built.beside.files
    files |= built.embedders.files
    files["config.json"] = _json_bytes(source.huggingface_config), Role.CONFIG
    files["preprocessor_config.json"] = _json_bytes(source.preprocessor_config), Role.CONFIG
    selected, found = built.selected, built.selected.outcome.trial.quantization
    elsewhere = {name for name, each in selected.outcomes.items() if not each.timed_here}
    accuracy = accuracy_record(selected, FLOAT_MODEL, built.converted.parity, images)
    manifest = Manifest(
        files={name: FileEntry.of(data, role) for name, (data, role) in files.items()},
        default_model=built.runs,
        preprocess=source.preprocess,
        source=SourceRecord(source.name, source.sha256, source.notes),
        tools=tool_versions(),
        quantization=recipe_record(selected, built.wanted, built.embedders.record, built.beside.compiled),
        layers=tuple(layer.record for layer in for_target(found, built.judged.target).layers),
        accuracy=dataclasses.replace(accuracy, notes=(*accuracy.notes, *built.beside.notes)),
        latency=latency_records(list(built.models), selected.timed, elsewhere),
        providers=built.providers,
        output=source.output,
        source_parity=built.proof,
        findings=built.findings,
    )
    documents = {"README.md": card(manifest, built.converted.canonical.description)}
    documents |= bundle_report(built.measured, built.judged.name, manifest, images.held_out, progress)
    written = {name: (text.encode(), Role.DOCUMENT) for name, text in documents.items()}
    entries = {name: FileEntry.of(data, role) for name, (data, role) in written.items()}
    complete = dataclasses.replace(manifest, files={**manifest.files, **entries})
    return write_bundle(out, {name: data for name, (data, _) in (files | written).items()}, complete)


def _json_bytes(content: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(content, indent=2, allow_nan=False).encode()
    except (ValueError, TypeError) as error:
        raise UsageError(f"the source's configuration cannot be written as JSON ({error})") from None
