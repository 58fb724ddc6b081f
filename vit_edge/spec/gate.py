"""What the gate accepts, and what it says."""

import dataclasses
import enum


class Verdict(enum.Enum):
    """What the images can show about a drop; the value is the word that is printed."""

    PASS = "PASS"  # noqa: S105  a verdict, not a password
    FAIL = "FAIL"
    UNDECIDED = "UNDECIDED"


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """What the gate accepts."""

    max_drop: float = 1.0
    """Points of top-1."""
    confidence: float = 0.95
    max_changed: float = 3.0
    """Percent of predictions that may change, where no labels tell the drop."""

    def __post_init__(self) -> None:
        """Refuse a tolerance that no gate could apply."""
        if not 0 < self.max_drop <= 100:
            raise ValueError(f"max_drop must be above 0 and at most 100 points, got {self.max_drop}")
        if not 0 < self.max_changed <= 100:
            raise ValueError(f"max_changed must be above 0 and at most 100 percent, got {self.max_changed}")
        if not 0.5 < self.confidence < 1:
            raise ValueError(f"confidence must lie between 0.5 and 1, got {self.confidence}")
