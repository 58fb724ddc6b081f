"""What the gate accepts, and what it says."""

import dataclasses
import enum
from typing import Annotated

from vit_edge.plain import Mark

LEAST_COSINE = 0.8  # what lies further off counts as this where a mean of cosines is judged


class Verdict(enum.Enum):
    """What the images can show about a drop; the value is the word that is printed."""

    PASS = "PASS"  # noqa: S105  a verdict, not a password
    FAIL = "FAIL"
    UNDECIDED = "UNDECIDED"


@dataclasses.dataclass(frozen=True)
class MapLimits:
    """What counts as the same map of one image, of a model that gives maps."""

    min_correlation: float = 0.99
    """Of the numbers of both maps, after Pearson."""
    max_difference: float = 2.0
    """Mean absolute difference, in percent of the range that the float model's maps span."""
    min_overlap: float = 0.9
    """Of several channels: mean intersection over union of where each is the largest."""
    min_boxes: Annotated[float, Mark.OMITTED] = 0.9
    """Of a detector, in place of the others: share of the boxes that either model shows that are matched."""

    def __post_init__(self) -> None:
        """Refuse limits that no map is within, or every one."""
        if not 0 < self.min_correlation < 1:
            raise ValueError(f"min_correlation must lie between 0 and 1, got {self.min_correlation}")
        if not 0 < self.max_difference <= 100:
            raise ValueError(
                f"max_difference must be above 0 and at most 100 percent, got {self.max_difference}"
            )
        if not 0 < self.min_overlap < 1:
            raise ValueError(f"min_overlap must lie between 0 and 1, got {self.min_overlap}")
        if not 0 < self.min_boxes <= 1:
            raise ValueError(f"min_boxes must be above 0 and at most 1, got {self.min_boxes}")


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """What the gate accepts."""

    max_drop: float = 1.0
    """Points of top-1."""
    confidence: float = 0.95
    max_changed: float = 3.0
    """Percent of predictions that may change, where no labels tell the drop."""
    maps: Annotated[MapLimits, Mark.OMITTED] = dataclasses.field(default_factory=MapLimits)
    """Beyond which an image of a model of maps has changed."""

    def __post_init__(self) -> None:
        """Refuse a tolerance that no gate could apply."""
        if not 0 < self.max_drop <= 100:
            raise ValueError(f"max_drop must be above 0 and at most 100 points, got {self.max_drop}")
        if not 0 < self.max_changed <= 100:
            raise ValueError(f"max_changed must be above 0 and at most 100 percent, got {self.max_changed}")
        if not 0.5 < self.confidence < 1:
            raise ValueError(f"confidence must lie between 0.5 and 1, got {self.confidence}")


@dataclasses.dataclass(frozen=True)
class EmbeddingTolerance:
    """What the gate accepts of embeddings; each output of an embedder must keep all of it."""

    min_cosine: float = 0.98
    """Of an image's embedding to that of the float model, mean over images."""
    min_cosine_tail: float = 0.95
    """The same, that all but 1 % of images must reach."""
    min_recall: float = 90.0
    """Percent of an image's ten nearest neighbours that are the float model's, mean over images."""
    max_drop: float = 1.0
    """Points of accuracy by neighbours and by a linear probe, where there are labels."""
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Refuse a tolerance that no gate could apply."""
        for name in ("min_cosine", "min_cosine_tail"):
            if not LEAST_COSINE < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between {LEAST_COSINE} and 1, got {getattr(self, name)}")
        if not 0 < self.min_recall < 100:
            raise ValueError(f"min_recall must lie between 0 and 100 percent, got {self.min_recall}")
        Tolerance(self.max_drop, self.confidence)
