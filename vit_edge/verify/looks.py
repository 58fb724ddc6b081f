"""Looking again at the same evidence: which earlier looks count, and what a later one must allow for.

A fixed number of images allows one look. Who adds images to a set that did not decide and judges all of them
again, and again, passes a model that loses as much as is tolerated ever more often (up to 8 % within five
looks instead of 2.5 %). So every look after the first that shares an image with an earlier one is judged by
the confidence sequence of `sequential`, which holds after every number of images, however that was chosen.
It needs each look to hold all images of those before; one that leaves some out is a choice among samples,
and gets only a part of the error: 1 / (k (k - 1)) for the k-th look, which sums to one over all of them.

A set that shares no image with an earlier one is evidence of its own and needs no correction. The same set
judged again is no further look.
"""

import dataclasses
import itertools
from collections.abc import Sequence

Looked = frozenset[str]  # digests of the images of one look


@dataclasses.dataclass(frozen=True)
class LookPlace:
    """Where a look stands among those at the same pair of models."""

    number: int  # 1 for a fresh set; k where k - 1 earlier looks share an image with this one
    known: int  # images that an earlier look has seen
    left_out: int  # images of those earlier looks that this one does not hold

    @property
    def again(self) -> bool:
        """Whether part of the evidence was looked at before."""
        return self.number > 1

    def confidence(self, wanted: float) -> float:
        """What the interval must have, so that all looks together err no more than the one wanted."""
        return self.spent(wanted) if self.left_out else wanted

    def spent(self, wanted: float) -> float:
        """The same of intervals for a fixed number of images, which allow for one look."""
        if not self.again:
            return wanted
        return 1.0 - (1.0 - wanted) / (self.number * (self.number - 1))


def place_look(earlier: Sequence[Looked], images: Looked) -> LookPlace:
    """Where a look at these images stands.

    Args:
        earlier: looks at the same pair of models, the oldest first; the same set among them stands for this
            look, and what came after it does not count.
        images: digests of the images of this look.
    """
    before = list(earlier)
    if images in before:
        before = before[: before.index(images)]
    shared = [look for look in before if look & images]
    seen: Looked = frozenset().union(*shared)
    grown = [*shared, images]
    nested = all(first <= second for first, second in itertools.pairwise(grown))
    left_out = len(seen - images)
    # a look that is whole but stands upon looks that were not is a choice among samples, too
    return LookPlace(1 + len(shared), len(seen & images), left_out if nested else max(left_out, 1))
