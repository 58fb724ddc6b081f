"""How the two models of a comparison are run."""

import dataclasses

from vit_edge.errors import UsageError
from vit_edge.runtime.session.session import SessionSettings
from vit_edge.runtime.spread.task import ALONE, Spread
from vit_edge.verify.looks import Looked


@dataclasses.dataclass(frozen=True)
class CompareSettings:
    """How the two models of a comparison are run."""

    session: SessionSettings = dataclasses.field(default_factory=SessionSettings)
    batch_size: int = 8
    sequential: bool = False
    """Images in random order, until they decide."""
    seed: int = 0
    """Of that order."""
    independent: bool = False
    """The images are independent of one another, however alike: group none."""
    earlier: tuple[Looked, ...] = ()
    """Looks at this pair of models, the oldest first."""
    expect_top1: float | None = None
    """Percent that the float model must reach."""
    stated_top1: float | None = None
    """Percent that its card or manifest states."""

    spread: Spread = ALONE
    """Who runs them; the report does not depend on it."""

    def __post_init__(self) -> None:
        """Refuse what no random generator takes."""
        if self.seed < 0:
            raise UsageError(f"seed must be 0 or more, got {self.seed}")
        if self.expect_top1 is not None and not 0 < self.expect_top1 <= 100:
            raise UsageError(f"expect_top1 must be above 0 and at most 100 percent, got {self.expect_top1}")
