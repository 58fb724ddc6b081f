"""The manifest of a bundle: typed fields, strictly read; `vit_edge.bundle` documents the format."""

import dataclasses
import enum
import hashlib
import re
from collections.abc import Mapping
from typing import Any, Self

from vit_edge import fields
from vit_edge.source_parity import UNRECORDED, SourceParity
from vit_edge.spec import OutputKind, PreprocessSpec, Verdict

MANIFEST = "vit_edge.json"
SIGNATURE = "model.sig"  # not among the files: it covers them
FORMAT_VERSION = 1

_OPTIONAL = frozenset({"output", "source_parity"})  # keys that manifests from before them lack
_PATH = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


class Role(enum.Enum):
    """What a file in a bundle is for."""

    FLOAT = "float"  # model: float32
    QUANTIZED = "quantized"  # model: portable INT8
    LOWERED = "lowered"  # model: for one target
    EMBEDDER_FLOAT = "embedder_float"  # embeddings instead of logits: float32
    EMBEDDER = "embedder"  # embeddings instead of logits: portable INT8
    CONFIG = "config"
    GOLDEN = "golden"  # input or expected output of the self-test
    DOCUMENT = "document"


MODEL_ROLES = (Role.FLOAT, Role.QUANTIZED, Role.LOWERED)  # classifiers, one of which runs by default
EMBEDDER_ROLES = (Role.EMBEDDER, Role.EMBEDDER_FLOAT)


@dataclasses.dataclass(frozen=True)
class FileEntry:
    """What the manifest records of one file."""

    sha256: str  # 64 lower-case hexadecimal digits
    size: int  # bytes
    role: Role

    def __post_init__(self) -> None:
        """Refuse a role that there is not."""
        fields.settle_members(self)

    @classmethod
    def of(cls, data: bytes, role: Role) -> Self:
        """The entry of these bytes."""
        return cls(hashlib.sha256(data).hexdigest(), len(data), role)


@dataclasses.dataclass(frozen=True)
class SourceRecord:
    """The checkpoint that a bundle was built from."""

    name: str
    sha256: str
    notes: tuple[str, ...] = ()  # what it leaves open and was decided where the bundle was built

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read what `dataclasses.asdict` made; ValueError names a key that is wrong."""
        keys = fields.exact_keys(raw, frozenset({"name", "sha256"}), "source", frozenset({"notes"}))
        return cls(
            fields.string(keys["name"], "source name"),
            fields.sha256(keys["sha256"], "source sha256"),
            fields.strings(keys.get("notes", []), "source notes"),
        )


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of `vit_edge.json`; the docstring of `vit_edge.bundle` says what each field holds."""

    files: Mapping[str, FileEntry]
    default_model: str
    preprocess: PreprocessSpec
    source: SourceRecord
    tools: Mapping[str, str]
    quantization: Mapping[str, Any] | None = None
    layers: tuple[Mapping[str, Any], ...] = ()
    accuracy: Mapping[str, Any] | None = None
    latency: tuple[Mapping[str, Any], ...] = ()
    providers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    output: OutputKind = OutputKind.SINGLE_LABEL  # of every classifier in it
    source_parity: SourceParity = UNRECORDED
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
        """Plain JSON types."""
        raw = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        raw["files"] = {
            path: {"sha256": entry.sha256, "size": entry.size, "role": entry.role.value}
            for path, entry in sorted(self.files.items())
        }
        raw["preprocess"] = self.preprocess.to_json()
        raw["source"] = dataclasses.asdict(self.source) | {"notes": list(self.source.notes)}
        raw["source_parity"] = self.source_parity.to_json()
        raw["layers"], raw["latency"] = list(self.layers), list(self.latency)
        raw["output"] = self.output.value
        if self.output is OutputKind.SINGLE_LABEL:  # the only kind that older readers know
            del raw["output"]
        return raw

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: an unknown format version, an unknown or missing key, or a value of the wrong type.
        """
        _check_version(fields.mapping(raw, "the manifest"))
        required = frozenset(f.name for f in dataclasses.fields(cls)) - _OPTIONAL
        keys = fields.exact_keys(raw, required, "the manifest", _OPTIONAL)
        return cls(
            format_version=keys["format_version"],
            files={path: _entry(path, e) for path, e in fields.mapping(keys["files"], "files").items()},
            default_model=fields.string(keys["default_model"], "default_model"),
            preprocess=PreprocessSpec.from_json(keys["preprocess"]),
            source=SourceRecord.from_json(keys["source"]),
            tools=_each(keys["tools"], "tools", fields.string),
            quantization=None
            if keys["quantization"] is None
            else fields.mapping(keys["quantization"], "quantization"),
            layers=_records(keys["layers"], "layers", "name"),
            accuracy=_accuracy(keys["accuracy"]),
            latency=_records(keys["latency"], "latency", "machine"),
            providers=_each(keys["providers"], "providers", _share),
            output=output_kind(keys.get("output", OutputKind.SINGLE_LABEL.value)),
            source_parity=SourceParity.from_json(keys["source_parity"])
            if "source_parity" in keys
            else UNRECORDED,
        )


def lowered_name(target: str) -> str:
    """Path in a bundle of the model that was made for a target by this name."""
    return f"onnx/model_{target}.onnx"


def output_kind(raw: object) -> OutputKind:
    """Read the value of an output kind; ValueError names the known ones."""
    return OutputKind(fields.choice(raw, "output", tuple(kind.value for kind in OutputKind)))


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


def _entry(path: str, raw: object) -> FileEntry:
    where = f"files {fields.shown(path)}"
    keys = fields.exact_keys(raw, frozenset({"sha256", "size", "role"}), where)
    roles = tuple(role.value for role in Role)
    return FileEntry(
        sha256=fields.sha256(keys["sha256"], f"{where} sha256"),
        size=fields.integer(keys["size"], f"{where} size", 0, 2**31),
        role=Role(fields.choice(keys["role"], f"{where} role", roles)),
    )


def _each(raw: object, where: str, read: Any) -> dict[str, Any]:
    items = fields.mapping(raw, where).items()
    return {key: read(value, f"{where} {fields.shown(key)}") for key, value in items}


def _share(raw: object, where: str) -> float:
    share = fields.number(raw, where)
    if not 0 <= share <= 1:
        raise ValueError(f"{where} must be from 0 to 1, got {raw!r}")
    return share


def _records(raw: object, where: str, label: str) -> tuple[dict[str, Any], ...]:
    records = [fields.mapping(item, f"each item of {where}") for item in fields.sequence(raw, where)]
    for record in records:
        fields.string(record.get(label), f"{label} of each item of {where}")
    return tuple(records)


def _accuracy(raw: object) -> dict[str, Any] | None:
    if raw is None:
        return None
    accuracy = fields.mapping(raw, "accuracy")
    fields.choice(accuracy.get("verdict"), "accuracy verdict", tuple(verdict.value for verdict in Verdict))
    return accuracy
