"""What answers for a source: at least labels for image files, at best every stage on the way to them."""

import abc
import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vit_edge.errors import SourceError
from vit_edge.host.sources.quiet import first_line
from vit_edge.spec import OutputKind


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What a reference says of one image file; its class by label, by index, or by both."""

    label: str | None
    index: int | None
    probability: float | None  # of that class, 0 to 1; None where it is not stated
    probabilities: npt.NDArray[np.float64] | None = (
        None  # (C,) of all classes, or all values of a regression, or an embedding
    )


def answer_of(values: npt.NDArray[np.float32], kind: OutputKind, *, activated: bool = False) -> Answer:
    """The answer that a model's numbers give.

    Args:
        values: (C,).
        kind: what they mean before any activation.
        activated: whether they are behind their Softmax or Sigmoid already.
    """
    scores = values.astype(np.float64)
    if kind is OutputKind.SINGLE_LABEL and not activated:
        scores = np.exp(scores - scores.max())
        scores /= scores.sum()
    elif not kind.ends_as_is and not activated:
        scores = 0.5 * (1.0 + np.tanh(0.5 * scores))
    best = int(values.argmax())
    return Answer(None, best, float(scores[best]), scores)


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

    def numbers(self, path: Path) -> npt.NDArray[np.float32]:
        """What its model gives for an image file, (C,) or (D,).

        Raises:
            SourceError: it fails on it.
        """
        with self.running(path):
            return self.logits(self.pixel_values(path))

    @contextlib.contextmanager
    def running(self, path: Path) -> Iterator[None]:
        """Whatever an image leads it to raise becomes one sentence.

        Raises:
            SourceError: names itself and the image.
        """
        try:
            yield
        except Exception as error:
            raise SourceError(f"{self.name} fails on {path.name} ({first_line(error)})") from error

    def vector(self, path: Path) -> Answer:
        """The numbers of an embedding, as those of an answer without any class."""
        return Answer(None, None, None, self.numbers(path).astype(np.float64))

    @abc.abstractmethod
    def decoded(self, path: Path) -> npt.NDArray[np.uint8]:
        """The image as decoded, RGB (H, W, 3)."""

    @abc.abstractmethod
    def pixel_values(self, path: Path) -> npt.NDArray[np.float32]:
        """What its model sees, (3, H, W)."""

    @abc.abstractmethod
    def logits(self, pixel_values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What its model gives for (3, H, W), (C,)."""
