"""Mean intersection over union of masks with true ones, of images that weigh as a bootstrap asks.

The pixels of all images are pooled: of each class that truth shows, the pixels that both say over those that
either says, and the mean over these classes (Everingham et al. 2010; Long, Shelhamer and Darrell 2015).
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from vit_edge.truth_report import TruthMeasure
from vit_edge.verify.arrays import Reals
from vit_edge.verify.scores import Drawn, Scores


@dataclasses.dataclass(frozen=True, eq=False)
class MaskScores(Scores):
    """A model's masks against true ones, in pixels of each class."""

    measures: ClassVar[tuple[TruthMeasure, ...]] = (TruthMeasure.MIOU,)

    both: Reals
    """(N, classes) that truth and the model give the class."""
    found: Reals
    """(N, classes) that the model does."""
    true: Reals
    """(N, classes) that truth does."""

    @property
    def images(self) -> int:
        """N."""
        return len(self.true)

    def class_values(self, weights: Reals) -> Reals:
        """(present classes,) intersection over union."""
        made: Reals = self._by_class(weights[None], np.zeros(1))[0, 0]
        return made

    def at(self, rows: NDArray[np.intp]) -> Self:
        """Of some of the images."""
        return dataclasses.replace(self, both=self.both[rows], found=self.found[rows], true=self.true[rows])

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Of the images of all parts, in their order."""
        both, found, true = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("both", "found", "true")
        )
        return cls(both, found, true)

    @property
    def present(self) -> list[int]:
        """The classes that truth shows."""
        return [int(index) for index in np.flatnonzero(self.true.sum(axis=0))]

    def drawn(self, weights: Reals, lead: Reals) -> Drawn:
        """(B, 1) mean intersection over union each, see `Scores.drawn`.

        A pixel that is wrong counts against two classes: that which it is, and that which it is said to be.
        """
        return Drawn(*self._by_class(weights, lead).mean(axis=2)[:, :, None])

    def _by_class(self, weights: Reals, lead: Reals) -> Reals:
        """(3, B, classes that truth shows) intersection over union, see `Scores.drawn`."""
        both, found, true = (weights @ each[:, self.present] for each in (self.both, self.found, self.true))
        more = lead[:, None] * self.true[:, self.present].mean(axis=0)
        either = found + true - both
        return np.stack([both / either, (both + more) / (either + more), both / (either + 2 * more)])


def mask_scores(found: NDArray[np.integer], true: NDArray[np.integer], classes: int) -> MaskScores:
    """Of one image.

    Args:
        found: (pixels,) the class that the model gives each.
        true: (pixels,) 0 to `classes` - 1, without what is left out.
        classes: how many there are.
    """
    counts = [np.bincount(each, minlength=classes) for each in (found[found == true], found, true)]
    both, given, wanted = (each.astype(np.float64)[None] for each in counts)
    return MaskScores(both, given, wanted)
