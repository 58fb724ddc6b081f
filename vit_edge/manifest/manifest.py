"""The content of `vit_edge.json`, typed and strictly read; docs/bundle-format.md describes the format."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from vit_edge import fields, plain
from vit_edge.diagnosis import Finding
from vit_edge.manifest.accuracy import AccuracyRecord
from vit_edge.manifest.recipe import Recipe
from vit_edge.manifest.records import MODEL_ROLES, FileEntry, LatencyRecord, LayerRecord, SourceRecord
from vit_edge.plain import Mark, Within
from vit_edge.source_parity import UNRECORDED, SourceParity
from vit_edge.spec import OutputKind, PreprocessSpec

MANIFEST = "vit_edge.json"
SIGNATURE = "model.sig"  # not among the files: it covers them
FORMAT_VERSION = 1

_PATH = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a bundle holds, how it was made, and the proof."""

    files: Mapping[str, FileEntry]
    """By path in the bundle; every file that a reader may use."""
    default_model: str
    """Path of the classifier that runs unless another is asked for."""
    preprocess: PreprocessSpec
    source: SourceRecord
    tools: Mapping[str, str]
    """Tool -> version that the bundle was built with."""
    quantization: Annotated[Recipe | None, Mark.OPEN] = None
    """None of a bundle without INT8."""
    layers: Annotated[tuple[LayerRecord, ...], Mark.OPEN] = ()
    """One per decision."""
    accuracy: Annotated[AccuracyRecord | None, Mark.OPEN] = None
    """None where nothing was measured."""
    latency: Annotated[tuple[LatencyRecord, ...], Mark.OPEN] = ()
    providers: Mapping[str, Annotated[float, Within(0, 1)]] = dataclasses.field(default_factory=dict)
    """Execution provider -> share of graph nodes that it is expected to take."""
    output: Annotated[OutputKind, Mark.OMITTED] = OutputKind.SINGLE_LABEL
    """What the numbers of every classifier mean; the oldest readers know the default only."""
    source_parity: Annotated[SourceParity, Mark.ABSENT] = UNRECORDED
    """The proof that the source's own pipeline and the float model answer alike."""
    findings: Annotated[tuple[Finding, ...], Mark.OMITTED] = ()
    """Known pitfalls of the model or its preprocessing that `build` found in passing."""
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        """Refuse a manifest that no reader would accept.

        Raises:
            ValueError: the message names the key.
        """
        _check_paths(self.files)
        entry = self.files.get(self.default_model)
        if entry is None or entry.role not in MODEL_ROLES:
            raise ValueError(f"default_model {fields.shown(self.default_model)} is no model among the files")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, the files by name."""
        raw: dict[str, Any] = plain.of(self)
        return raw | {"files": dict(sorted(raw["files"].items()))}

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: an unknown format version, an unknown or missing key, or a value of the wrong type.
        """
        _check_version(fields.mapping(raw, "the manifest"))
        return plain.read(cls, raw, "the manifest", inside="")


def lowered_name(target: str) -> str:
    """Path in a bundle of the model that was made for a target by this name."""
    return f"onnx/model_{target}.onnx"


def compiler_name(target: str) -> str:
    """Path in a bundle of what the compiler of that target's model is told: types and ranges of tensors."""
    return f"onnx/model_{target}.quantization.json"


def compiled_name(target: str, suffix: str) -> str:
    """Path in a bundle of what the compiler of a target made of its model."""
    return f"onnx/model_{target}{suffix}"


def output_kind(raw: object) -> OutputKind:
    """Read the value of an output kind; ValueError names the known ones."""
    return fields.member(OutputKind, raw, "output")


def _check_version(raw: Mapping[str, Any]) -> None:
    version = raw.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ValueError(
            f"format version {fields.shown(version)} is newer than {FORMAT_VERSION}, "
            "the newest this vit-edge reads; run: pip install --upgrade vit-edge"
        )
    fields.integer(version, "format_version", 1, FORMAT_VERSION)


def _check_paths(paths: Mapping[str, FileEntry]) -> None:
    seen = {MANIFEST.casefold(), SIGNATURE.casefold()}
    for path in paths:
        parts = path.split("/")
        if not _PATH.fullmatch(path) or len(path) > 200 or any(part.strip(".") == "" for part in parts):
            raise ValueError(
                f"files has the path {fields.shown(path)}, which is no plain relative path inside the bundle"
            )
        if path.casefold() in seen:
            raise ValueError(
                f"files has the path {path!r} twice, or uses the name of {MANIFEST} or {SIGNATURE}"
            )
        seen.add(path.casefold())
