"""The record of the proof that the source's own pipeline and the float model answer alike on image files."""

import dataclasses
import enum
from typing import Annotated, Any, Self

from vit_edge import plain
from vit_edge.plain import Mark


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


@dataclasses.dataclass(frozen=True)
class Difference:
    """An image on which the source's pipeline and the float model do not answer alike."""

    image: str
    """File name."""
    stage: Stage | None
    """None where the reference shows its answers only."""
    reference_label: str
    reference_probability: float | None
    """0 to 1, None where it is not stated."""
    label: str
    probability: float
    """That the float model gives the reference's class, 0 to 1."""
    cause: Annotated[str, Mark.ABSENT] = ""
    """Of a difference in `stage`, where it is known."""

    def __str__(self) -> str:
        theirs = "" if self.reference_probability is None else f" {self.reference_probability:.4f}"
        cause = f": {self.cause}" if self.cause else ""
        where = "" if self.stage is None else f" (first in {self.stage.value}{cause})"
        return (
            f"{self.image}: {self.reference_label}{theirs} by the source, {self.label} here, which gives the "
            f"source's class {self.probability:.4f}{where}"
        )


@dataclasses.dataclass(frozen=True)
class SourceParity:
    """Source against float: what ran, on how many files, and how far the answers lie apart."""

    state: ProofState
    reason: str
    """One clause; why it is not proven, or what was found."""
    reference: str = ""
    """What answered for the source, with versions; empty where nothing ran."""
    images: int = 0
    differ: int = 0
    """Images whose label, or whose probability by more than the tolerance, is another."""
    agreement: float | None = None
    """Percent of the images that have the same label."""
    largest: float | None = None
    """Largest difference of a probability, 0 to 1."""
    tolerance: float | None = None
    """That such a difference may have."""
    shown: tuple[Difference, ...] = ()
    """Some of those that differ."""

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
        raw: dict[str, Any] = plain.of(self)
        return raw

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read what `to_json` wrote; ValueError names the key that is wrong."""
        return plain.read(cls, raw, "source_parity")


def not_proven(reason: str) -> SourceParity:
    """What stands where no reference could run."""
    return SourceParity(ProofState.NOT_PROVEN, reason)


UNRECORDED = not_proven("nothing is recorded of the source's own pipeline")
