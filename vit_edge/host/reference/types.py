"""What answers for a source: at least labels for image files, at best every stage on the way to them."""

import abc
import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What a reference says of one image file; its class by label, by index, or by both."""

    label: str | None
    index: int | None
    probability: float | None  # of that class, 0 to 1; None where it is not stated
    probabilities: npt.NDArray[np.float64] | None = None  # (C,) of all classes, where they are stated


class Reference(abc.ABC):
    """Answers for the source."""

    name: str  # with versions, for records

    @abc.abstractmethod
    def answer(self, path: Path) -> Answer:
        """What the source says of an image file.

        Raises:
            SourceError: it fails on it.
        """


class Pipeline(Reference):
    """A reference whose stages can be looked at, so that a difference can be located."""

    @abc.abstractmethod
    def decoded(self, path: Path) -> npt.NDArray[np.uint8]:
        """The image as decoded, RGB (H, W, 3)."""

    @abc.abstractmethod
    def pixel_values(self, path: Path) -> npt.NDArray[np.float32]:
        """What its model sees, (3, H, W)."""

    @abc.abstractmethod
    def logits(self, pixel_values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What its model gives for (3, H, W), (C,)."""
