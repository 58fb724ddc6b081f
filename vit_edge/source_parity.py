"""The record of the proof that the source's own pipeline and the float model answer alike on image files."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any, Self

from vit_edge import fields


class ProofState(enum.Enum):
    """What is known; the value is what is printed."""

    PROVEN = "proven"
    DIFFERS = "differs"
    NOT_PROVEN = "not proven"


class Stage(enum.Enum):
    """Where two pipelines part on the way from an image file to a label."""

    DECODE = "decode"
    RESIZE = "resize"
    CROP = "crop"
    NORMALISE = "normalise"
    WEIGHTS = "weights"
    HEAD = "head"


_LATER = frozenset({"cause"})  # keys that records from before them lack


@dataclasses.dataclass(frozen=True)
class Difference:
    """An image on which the source's pipeline and the float model do not answer alike."""

    image: str  # file name
    stage: Stage | None  # None where the reference shows its answers only
    reference_label: str
    reference_probability: float | None  # 0 to 1, None where it is not stated
    label: str
    probability: float  # that the float model gives the reference's class, 0 to 1
    cause: str = ""  # of a difference in `stage`, where it is known

    def __str__(self) -> str:
        theirs = "" if self.reference_probability is None else f" {self.reference_probability:.4f}"
        cause = f": {self.cause}" if self.cause else ""
        where = "" if self.stage is None else f" (first in {self.stage.value}{cause})"
        return (
            f"{self.image}: {self.reference_label}{theirs} by the source, {self.label} here, which gives the "
            f"source's class {self.probability:.4f}{where}"
        )

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read one; ValueError names the key that is wrong."""
        where = "each of source_parity shown"
        names = frozenset(field.name for field in dataclasses.fields(cls))
        keys = fields.exact_keys(raw, names - _LATER, where, _LATER)
        cause = keys.get("cause", "")
        theirs, stage = keys["reference_probability"], keys["stage"]
        stages = tuple(each.value for each in Stage)
        return cls(
            image=fields.string(keys["image"], f"image of {where}"),
            stage=None if stage is None else Stage(fields.choice(stage, f"stage of {where}", stages)),
            reference_label=fields.string(keys["reference_label"], f"reference_label of {where}"),
            reference_probability=None
            if theirs is None
            else fields.number(theirs, f"probability of {where}"),
            label=fields.string(keys["label"], f"label of {where}"),
            probability=fields.number(keys["probability"], f"probability of {where}"),
            cause=fields.string(cause, f"cause of {where}") if cause else "",
        )


@dataclasses.dataclass(frozen=True)
class SourceParity:
    """Source against float: what ran, on how many files, and how far the answers lie apart."""

    state: ProofState
    reason: str  # one clause; why it is not proven, or what was found
    reference: str = ""  # what answered for the source, with versions; empty where nothing ran
    images: int = 0
    differ: int = 0  # images whose label, or whose probability by more than the tolerance, is another
    agreement: float | None = None  # percent of the images that have the same label
    largest: float | None = None  # largest difference of a probability, 0 to 1
    tolerance: float | None = None  # that such a difference may have
    shown: tuple[Difference, ...] = ()  # some of those that differ

    def __str__(self) -> str:
        return f"{self.state.value}: {self.reason}"

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Where the images that are shown part, in the order of the pipeline."""
        seen = {each.stage for each in self.shown}
        return tuple(stage for stage in Stage if stage in seen)

    @property
    def causes(self) -> tuple[str, ...]:
        """What is known of why they part."""
        return tuple(dict.fromkeys(each.cause for each in self.shown if each.cause))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        raw = dataclasses.asdict(self) | {"state": self.state.value}
        raw["shown"] = [
            dataclasses.asdict(each) | {"stage": None if each.stage is None else each.stage.value}
            for each in self.shown
        ]
        return raw

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read what `to_json` wrote; ValueError names the key that is wrong."""
        keys = fields.exact_keys(
            raw, frozenset(field.name for field in dataclasses.fields(cls)), "source_parity"
        )
        states = tuple(state.value for state in ProofState)
        reference = keys["reference"]
        return cls(
            state=ProofState(fields.choice(keys["state"], "source_parity state", states)),
            reason=fields.string(keys["reason"], "source_parity reason"),
            reference=fields.string(reference, "source_parity reference") if reference else "",
            images=fields.integer(keys["images"], "source_parity images", 0, 2**31),
            differ=fields.integer(keys["differ"], "source_parity differ", 0, 2**31),
            **{key: _number_or_none(keys, key) for key in ("agreement", "largest", "tolerance")},
            shown=tuple(map(Difference.from_json, fields.sequence(keys["shown"], "source_parity shown"))),
        )


def not_proven(reason: str) -> SourceParity:
    """What stands where no reference could run."""
    return SourceParity(ProofState.NOT_PROVEN, reason)


UNRECORDED = not_proven("nothing is recorded of the source's own pipeline")


def _number_or_none(keys: Mapping[str, Any], key: str) -> float | None:
    return None if keys[key] is None else fields.number(keys[key], f"source_parity {key}")
