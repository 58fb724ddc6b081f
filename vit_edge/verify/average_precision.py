"""Mean average precision of boxes, as COCO has it, of images that weigh as a bootstrap asks.

The boxes of a class on all images stand in the order of their scores. Behind each stands the precision and
the recall of all up to it; precision is made to never rise again to the left, and read at 101 recalls (Lin
et al. 2014; pycocotools' `COCOeval.accumulate`, all areas, 100 boxes of a class per image). The mean over
the classes that have true boxes is mAP@0.5, and that over ten thresholds as well mAP@0.5:0.95. With weights
a box counts as often as its image does.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from vit_edge.truth_report import TruthMeasure
from vit_edge.verify.arrays import Booleans, Reals
from vit_edge.verify.matching import THRESHOLDS, Matches
from vit_edge.verify.scores import Drawn, Scores

_RECALLS = np.linspace(0.0, 1.0, 101)
_AT_ONCE = 2**15  # numbers


@dataclasses.dataclass(frozen=True, eq=False)
class BoxScores(Scores):
    """A detector's boxes against true ones."""

    measures: ClassVar[tuple[TruthMeasure, ...]] = (TruthMeasure.MAP, TruthMeasure.MAP_50)

    matches: tuple[Matches, ...]
    """Of each image, of classes that truth speaks of."""
    objects: Reals
    """(N, classes) true boxes that can be missed."""

    @property
    def images(self) -> int:
        """N."""
        return len(self.matches)

    def class_values(self, weights: Reals) -> Reals:
        """(present classes,) average precision, mean over thresholds."""
        made: Reals = self._by_class(weights[None], np.zeros(1))[0, :, :, 0].mean(axis=1)
        return made

    def at(self, rows: NDArray[np.intp]) -> Self:
        """Of some of the images."""
        return dataclasses.replace(
            self, matches=tuple(self.matches[row] for row in rows), objects=self.objects[rows]
        )

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Of the images of all parts, in their order."""
        matches = tuple(each for part in parts for each in part.matches)
        return cls(matches, np.concatenate([part.objects for part in parts]))

    def drawn(self, weights: Reals, lead: Reals) -> Drawn:
        """(B, 2) mAP@0.5:0.95 and mAP@0.5 each, see `Scores.drawn`."""
        found = self._by_class(weights, lead)
        return Drawn(*np.stack([found.mean(axis=(1, 2)), found[:, :, 0].mean(axis=1)], axis=2))

    def _by_class(self, weights: Reals, lead: Reals) -> Reals:
        """(3, present classes, T, B) average precision: plain, with one more image right, and wrong."""
        usual = self.objects.mean(axis=0)
        made = [self._of_class(index, weights, lead * usual[index]) for index in self.present]
        return np.stack(made, axis=1)

    @property
    def present(self) -> list[int]:
        """The classes that have true boxes."""
        return [int(index) for index in np.flatnonzero(self.objects.sum(axis=0))]

    def _of_class(self, index: int, weights: Reals, more: Reals) -> Reals:
        pooled, totals = self._pooled[index], weights @ self.objects[:, index]
        made = np.empty((3, len(THRESHOLDS), len(weights)))
        step = max(1, _AT_ONCE // max(pooled.images.size, 1))
        for start in range(0, len(weights), step):
            rows = slice(start, start + step)
            each = weights[rows][:, pooled.images]
            for level in range(len(THRESHOLDS)):
                made[:, level, rows] = pooled.precision(level, each, totals[rows], more[rows])
        return made

    @functools.cached_property
    def _pooled(self) -> dict[int, "_Pooled"]:
        images = np.repeat(np.arange(len(self.matches)), [len(each.scores) for each in self.matches])
        classes, scores = (
            np.concatenate([getattr(each, name) for each in self.matches]) for name in ("classes", "scores")
        )
        right, wrong = (
            np.concatenate([getattr(each, name) for each in self.matches], axis=1)
            for name in ("right", "wrong")
        )
        pooled = {}
        for index in self.present:
            rows = np.flatnonzero(classes == index)
            rows = rows[np.argsort(-scores[rows], kind="stable")]
            hit = right[:, rows].any(axis=0)
            rows = rows[
                : int(np.flatnonzero(hit)[-1]) + 1 if hit.any() else 0
            ]  # what follows changes nothing
            pooled[index] = _Pooled(images[rows], right[:, rows], wrong[:, rows])
        return pooled


@dataclasses.dataclass(frozen=True, eq=False)
class _Pooled:
    """The boxes of one class on all images, the surest first."""

    images: NDArray[np.intp]  # (M,)
    right: Booleans  # (T, M)
    wrong: Booleans  # (T, M)

    def precision(self, level: int, weights: Reals, totals: Reals, more: Reals) -> Reals:
        """(3, B) average precision at one threshold: plain, with `more` found first, with them missed.

        Args:
            level: which.
            weights: (B, M) of the boxes.
            totals: (B,) of true boxes.
            more: (B,) of true boxes.
        """
        # between right boxes precision only falls, so that these are all that the curve rests on
        places = np.flatnonzero(self.right[level])
        hits = np.cumsum(weights[:, places], axis=1)
        misses = np.cumsum(weights * self.wrong[level], axis=1)[:, places]
        best = _never_rising(hits / (hits + misses))
        plain, whole = totals[:, None], (totals + more)[:, None]
        added, none = hits + more[:, None], np.zeros_like(more)
        first = np.divide(more, more, out=none.copy(), where=more > 0)[:, None]  # nothing wrong is surer
        after = _never_rising(np.concatenate([first, added / (added + misses)], axis=1))
        return np.stack(
            [
                _area(best, hits / plain),
                _area(after, np.concatenate([more[:, None], added], axis=1) / whole),
                _area(best, hits / whole),
            ]
        )


def _never_rising(precision: Reals) -> Reals:
    """The largest of all to the right."""
    return np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]


def _area(precision: Reals, recall: Reals) -> Reals:
    """(B,) mean of the precision at the recalls that are read; 0 at those that are not reached."""
    # how many of them each place is the first to reach
    reached = np.searchsorted(_RECALLS, recall, side="right")
    made: Reals = (precision * np.diff(reached, prepend=0)).sum(axis=1) / len(_RECALLS)
    return made
