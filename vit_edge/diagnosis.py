"""The record of an examination: which known pitfalls were looked for, and which were found."""

import dataclasses
import enum
from typing import Annotated, Any, Self

from vit_edge import plain
from vit_edge.plain import Mark


class Severity(enum.Enum):
    """What a finding means for whoever wants to ship the model."""

    ERROR = "error"  # the model or its preprocessing is wrong
    WARNING = "warning"  # it may be, and somebody should look
    NOTE = "note"  # worth knowing


class Code(enum.Enum):
    """A pitfall; the values are stable."""

    NORMALISATION = "normalisation"
    CHANNEL_ORDER = "channel_order"
    LAYOUT = "layout"
    INTERPOLATION = "interpolation"
    CROP = "crop"
    IMAGE_SIZE = "image_size"
    POSITIONS_MISSING = "positions_missing"
    POSITIONS_SHUFFLED = "positions_shuffled"
    POSITIONS_OF_OTHER_SIZE = "positions_of_other_size"
    FEW_TOKENS = "few_tokens"
    SOFTMAX_TWICE = "softmax_twice"
    SOFTMAX_MISSING = "softmax_missing"
    LABEL_ORDER = "label_order"
    DUPLICATE_LABELS = "duplicate_labels"
    POOLING = "pooling"
    DEAD_HEAD = "dead_head"
    DEAD_BLOCK = "dead_block"
    DEAD_CLASS = "dead_class"
    CONSTANT_ANSWER = "constant_answer"
    MASSIVE_ACTIVATIONS = "massive_activations"
    BELOW_EXPECTED = "below_expected"
    GUESSING = "guessing"
    NO_BETTER_THAN_PIXELS = "no_better_than_pixels"


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number that a finding rests on."""

    name: str
    value: float


@dataclasses.dataclass(frozen=True)
class Finding:
    """A pitfall that was found; never a verdict on quantization."""

    code: Code
    severity: Severity
    what: str
    """One clause."""
    mend: str
    """One clause."""
    evidence: tuple[Figure, ...] = ()
    order: Annotated[tuple[int, ...], Mark.OMITTED] = ()
    """Of a finding about the order of labels: for each answer of the model, the label that fits it."""

    def __str__(self) -> str:
        return f"{self.severity.value} {self.code.value}: {self.what}; {self.mend}"


@dataclasses.dataclass(frozen=True)
class NotChecked:
    """A pitfall that could not be looked for."""

    code: Code
    reason: str


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """All of an examination. What is neither found nor in `not_checked` was looked for and is not there."""

    model: str
    images: int
    """Distinct ones that the model was run on."""
    labelled: bool
    findings: tuple[Finding, ...]
    """The most severe first."""
    not_checked: tuple[NotChecked, ...]
    tests: int
    """Significance tests that were made together, see `error`."""
    error: float
    """Chance that any of them finds something where there is nothing, after Holm 1979."""

    @property
    def sound(self) -> bool:
        """Whether nothing was found that makes the model or its preprocessing wrong."""
        return all(each.severity is not Severity.ERROR for each in self.findings)

    @property
    def clear(self) -> tuple[Code, ...]:
        """Pitfalls that were looked for and are not there."""
        other = {each.code for each in self.findings} | {each.code for each in self.not_checked}
        return tuple(code for code in Code if code not in other)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; `clear` is written, too."""
        raw: dict[str, Any] = plain.of(self)
        return raw | {"clear": [code.value for code in self.clear]}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Read what `to_json` wrote; ValueError names the key that is wrong."""
        known = {key: value for key, value in raw.items() if key != "clear"}
        return plain.read(cls, known, "diagnosis")
