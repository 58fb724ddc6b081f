"""How right one model is against truth, as measures that images take part in by weights.

A measure such as mean average precision is no mean over images: it pools what all of them show. What it is of
some images more than others, as a bootstrap asks, follows from counts that are made once.
"""

import abc
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from vit_edge.truth_report import TruthMeasure
from vit_edge.verify.arrays import Reals


class Drawn(NamedTuple):
    """Every measure for B rows of weights, (B, measures) each, 0 to 1."""

    plain: Reals
    right: Reals
    """With one more image, as full as they are on average, of which the model makes all that is true."""
    wrong: Reals
    """The same where it makes nothing right of it."""


class Scores(abc.ABC):
    """One model against truth on N images."""

    measures: ClassVar[tuple[TruthMeasure, ...]]

    @property
    @abc.abstractmethod
    def images(self) -> int:
        """N."""

    @property
    @abc.abstractmethod
    def present(self) -> list[int]:
        """The classes that truth shows, over which a measure is the mean."""

    @abc.abstractmethod
    def class_values(self, weights: Reals) -> Reals:
        """(present classes,) the first measure for weights (N,)."""

    @abc.abstractmethod
    def at(self, rows: NDArray[np.intp]) -> Self:
        """Of some of the images."""

    @classmethod
    @abc.abstractmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Of the images of all parts, in their order."""

    @abc.abstractmethod
    def drawn(self, weights: Reals, lead: Reals) -> Drawn:
        """Every measure, once for each row of weights.

        Args:
            weights: (B, N), above 0.
            lead: (B,) weight of one more image, 0 or more.
        """

    def values(self, weights: Reals) -> Reals:
        """(measures,) for weights (N,)."""
        made: Reals = self.drawn(weights[None], np.zeros(1)).plain[0]
        return made
