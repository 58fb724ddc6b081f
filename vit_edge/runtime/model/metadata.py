"""What a model file says about itself: JSON texts under keys of ours in its metadata_props.

A file of another maker has none of them; one that is malformed is refused by the name of its key.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Self, TypeVar

from vit_edge import fields
from vit_edge.manifest import output_kind
from vit_edge.spec import OutputKind, PreprocessSpec, session_options

LABELS_KEY = "vit_edge.labels"  # list of strings, one per class
PREPROCESS_KEY = "vit_edge.preprocess"  # object, PreprocessSpec.to_json()
SESSION_OPTIONS_KEY = "vit_edge.session_options"  # object of spec.SESSION_OPTIONS entries
OUTPUT_KEY = "vit_edge.output"  # string, the value of an OutputKind; absent: single-label logits
SOURCE_KEY = "vit_edge.source"  # object, name and SHA-256 of the checkpoint
MERGED_KEY = "vit_edge.merged_tokens"  # integer, how many tokens merge in each block; absent: none

_MOST_MERGED = 2**18  # tokens in a block

Properties = Mapping[str, str]  # all metadata_props of a file
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class ModelMetadata:
    """All of it."""

    labels: tuple[str, ...] | None = None
    """One per class."""
    preprocess: PreprocessSpec | None = None
    session_options: tuple[tuple[str, str], ...] = ()
    """Entries of `spec.SESSION_OPTIONS`."""
    source: tuple[str, str] | None = None
    """Name and SHA-256 of the checkpoint."""
    output: OutputKind = OutputKind.SINGLE_LABEL
    """What its numbers mean, of a classifier."""
    merged_tokens: int = 0
    """That become part of others in each block."""

    def to_properties(self) -> dict[str, str]:
        """The metadata_props that say this; what is unknown is left out."""
        found = {}
        if self.labels is not None:
            found[LABELS_KEY] = json.dumps(list(self.labels), ensure_ascii=False)
        if self.preprocess is not None:
            found[PREPROCESS_KEY] = json.dumps(self.preprocess.to_json())
        if self.session_options:
            found[SESSION_OPTIONS_KEY] = json.dumps(dict(self.session_options))
        if self.source is not None:
            found[SOURCE_KEY] = json.dumps({"name": self.source[0], "sha256": self.source[1]})
        if self.output is not OutputKind.SINGLE_LABEL:
            found[OUTPUT_KEY] = json.dumps(self.output.value)
        if self.merged_tokens:
            found[MERGED_KEY] = json.dumps(self.merged_tokens)
        return found

    @classmethod
    def of(cls, properties: Properties) -> Self:
        """Read what `to_properties` wrote.

        Raises:
            ValueError: a key of ours that is malformed, in a clause about the file.
        """
        return cls(
            labels_of(properties),
            preprocess_of(properties),
            session_options_of(properties),
            _read(properties, SOURCE_KEY, _source),
            output_of(properties) or OutputKind.SINGLE_LABEL,
            merged_tokens_of(properties),
        )


def labels_of(properties: Properties) -> tuple[str, ...] | None:
    """The labels alone; None where the file has none, ValueError where they are malformed."""
    return _read(properties, LABELS_KEY, _labels)


def preprocess_of(properties: Properties) -> PreprocessSpec | None:
    """The preprocessing alone; None where the file has none, ValueError where it is malformed."""
    return _read(properties, PREPROCESS_KEY, PreprocessSpec.from_json)


def session_options_of(properties: Properties) -> tuple[tuple[str, str], ...]:
    """The session options alone; ValueError where they are malformed or not allowed."""
    return _read(properties, SESSION_OPTIONS_KEY, session_options) or ()


def output_of(properties: Properties) -> OutputKind | None:
    """What the numbers mean; None where the file does not say it, ValueError where it is malformed."""
    return _read(properties, OUTPUT_KEY, output_kind)


def merged_tokens_of(properties: Properties) -> int:
    """How many tokens merge in each block; ValueError where that is malformed."""
    return _read(properties, MERGED_KEY, _merged_tokens) or 0


def _read(properties: Properties, key: str, read: Callable[[object], T]) -> T | None:
    if key not in properties:
        return None
    try:
        return read(fields.parse_json(properties[key], "the text"))
    except ValueError as error:
        raise ValueError(f"has unusable {key} metadata ({error}); export it again") from None


def _labels(raw: object) -> tuple[str, ...]:
    labels = fields.strings(raw, "labels")
    if not labels:
        raise ValueError("labels must not be empty")
    return labels


def _merged_tokens(raw: object) -> int:
    return fields.integer(raw, "merged tokens", 1, _MOST_MERGED)


def _source(raw: object) -> tuple[str, str]:
    keys = fields.exact_keys(raw, frozenset({"name", "sha256"}), "source")
    return fields.string(keys["name"], "name"), fields.sha256(keys["sha256"], "sha256")
