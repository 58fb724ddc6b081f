"""The record of the proof that an INT8 embedder gives what the float one does: verdict, criteria, figures."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Annotated, Any

from vit_edge import plain
from vit_edge.fields import settle_members
from vit_edge.plain import Mark
from vit_edge.spec import EmbeddingTolerance, Verdict

NEIGHBOURS = 10


class Criterion(enum.Enum):
    """What an output of an embedder is judged by; the value is its key."""

    COSINE = "cosine"  # to the float model's embedding, at least LEAST_COSINE, mean over images
    TAIL = "cosine_tail"  # the same, at its 1 % quantile
    RECALL = "recall_at_10"  # percent of the float model's nearest neighbours that are found
    NEIGHBOURS = "knn_drop"  # points of accuracy by nearest neighbours
    PROBE = "probe_drop"  # points of accuracy by a linear probe

    @property
    def is_drop(self) -> bool:
        """Whether the figure is a loss, of which a most is tolerated, and not a likeness with a least."""
        return self in (Criterion.NEIGHBOURS, Criterion.PROBE)

    @property
    def words(self) -> str:
        """What the figure is, for people."""
        return _WORDS[self]

    def shown(self, value: float) -> str:
        """A figure of it with its unit."""
        if self.is_drop:
            return f"{value:.2f} points"
        return f"{value:.2f} %" if self is Criterion.RECALL else f"{value:.4f}"

    def shown_limit(self, limit: float) -> str:
        """What is accepted, in words."""
        return f"{'at most' if self.is_drop else 'at least'} {self.shown(limit)}"


_WORDS = {
    Criterion.COSINE: "mean cosine",
    Criterion.TAIL: "cosine of all but 1 % of images",
    Criterion.RECALL: f"recall@{NEIGHBOURS}",
    Criterion.NEIGHBOURS: f"drop by {NEIGHBOURS} neighbours",
    Criterion.PROBE: "drop by a linear probe",
}


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """Of one embedding, over all vectors of all images."""

    cosine: float
    """Mean cosine similarity of a vector to its reference."""
    least_cosine: float
    """Of the vector that lies furthest off."""
    sqnr_db: Annotated[float, Mark.INFINITE]
    """Sum of squares of the reference over that of the difference; infinite where identical."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CriterionFigures:
    """One criterion of one output: a cosine, a percentage, or points of accuracy."""

    output: str
    """Its name in the model file."""
    criterion: Criterion
    found: float | None
    """None where the images are too few for it."""
    ci95: tuple[float, float] | None
    limit: float
    """The least that is accepted; of a drop, the most."""
    verdict: Verdict
    images: int
    """Independent images that it rests on."""
    images_needed: int | None
    """Further images like these that would decide; 0 where decided, None where a million would not."""
    accuracy_float: float | None = None
    """Percent, of a drop."""
    accuracy_quant: float | None = None

    def __post_init__(self) -> None:
        """Refuse words that there are not."""
        settle_members(self)

    @property
    def plausible(self) -> bool:
        """Whether the estimate lies within what is accepted, or there is none."""
        if self.found is None:
            return True
        return self.found <= self.limit if self.criterion.is_drop else self.found >= self.limit


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingReport:
    """The verdict on an embedder, and what it rests on; see `verify.embeddings`."""

    n: int
    """Images."""
    scenes: int
    """That count as independent."""
    queries: int
    """Images that look for their neighbours among the others."""
    gallery: int
    """Those others, which teach the probe, too."""
    labelled: bool
    verdict: Verdict
    images_needed: int | None
    """Of the criterion that needs most; 0 where the verdict is no UNDECIDED."""
    criteria: tuple[CriterionFigures, ...]
    outputs: Mapping[str, Fidelity]
    """Over all vectors of all images, by output."""
    tolerance: EmbeddingTolerance

    def __post_init__(self) -> None:
        """Refuse words that there are not."""
        settle_members(self)

    @property
    def deciding(self) -> CriterionFigures:
        """The first criterion that has the verdict of all, one with a figure where there is any."""
        same = [each for each in self.criteria if each.verdict is self.verdict]
        return next((each for each in same if each.found is not None), same[0])

    def to_json(self) -> dict[str, Any]:
        """The stable keys: the fields."""
        raw: dict[str, Any] = plain.of(self)
        return raw
