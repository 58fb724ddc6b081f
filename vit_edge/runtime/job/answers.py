"""The rows of images, by this process or by several workers."""

import dataclasses
import functools
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from vit_edge.errors import ImageError, UsageError
from vit_edge.manifest import Role
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, DecodeLimits
from vit_edge.runtime.image.preprocess import Decoding
from vit_edge.runtime.job.masks import mask_name, write_mask
from vit_edge.runtime.job.rows import Painted, Row, Task
from vit_edge.runtime.model.file import ModelFile, check_classifier, read_model
from vit_edge.runtime.model.outputs import OutputWanted
from vit_edge.runtime.predict.classifier import Classifier
from vit_edge.runtime.predict.detector import Detector
from vit_edge.runtime.predict.embedder import Embedder, read_embedder
from vit_edge.runtime.predict.segmentation import UNSEEN, Segmentation
from vit_edge.runtime.predict.segmenter import Segmenter
from vit_edge.runtime.spread.results import results_of
from vit_edge.runtime.spread.task import Chunk, Place, Spread, shared_threads, threads_of
from vit_edge.spec import OutputKind

Rows = Generator[Row, None, None]
Answer = TypeVar("Answer")

CHUNK = 16  # images that a worker is given at a time


@dataclasses.dataclass(frozen=True)
class Looking:
    """What is asked of a model whose answers lie on the image."""

    threshold: float
    """Of boxes the least probability; of a single channel, above which a pixel counts."""
    masks: Path | None = None
    """The folder that masks are written to; None: it gives boxes."""


@dataclasses.dataclass(frozen=True)
class Opening:
    """How a process opens the model; see `Classifier` for what the fields mean."""

    path: Path
    kind: str | None  # of an embedding: cls, pooled or patches; None: a classifier
    top: int = 5
    provider: str = "auto"
    threads: int | Literal["auto"] | None = None
    decoding: Decoding = Decoding.FAST
    model: Role | None = None
    limits: DecodeLimits = DEFAULT_LIMITS
    output: str | None = None
    output_kind: OutputKind | None = None
    trust: Path | None = None
    looking: Looking | None = None
    """Of a detector or a segmenter; None: of the others."""

    @property
    def task(self) -> Task:
        """What it is opened for."""
        if self.looking is not None:
            return Task.DETECT if self.looking.masks is None else Task.SEGMENT
        return Task.CLASSIFY if self.kind is None else Task.EMBED

    def detector(self) -> Detector:
        """Opened so.

        Raises:
            VitEdgeError: as `Detector`.
        """
        return Detector(*self._places)

    def segmenter(self) -> Segmenter:
        """Opened so.

        Raises:
            VitEdgeError: as `Segmenter`.
        """
        return Segmenter(*self._places)

    def classifier(self) -> Classifier:
        """Opened so.

        Raises:
            VitEdgeError: as `Classifier`.
        """
        return Classifier(*self._more, self.output, self.output_kind, self.trust)

    def embedder(self) -> Embedder:
        """Opened so.

        Raises:
            VitEdgeError: as `Embedder`.
        """
        return Embedder(*self._more, self.trust)

    def read(self) -> ModelFile:
        """The model file, checked to be of the kind.

        Raises:
            VitEdgeError: as `read_model` and `read_embedder`.
        """
        if self.kind is not None:
            return read_embedder(self.path, self.model, self.trust)
        file = read_model(self.path, self.model, OutputWanted(self.output, self.output_kind), self.trust)
        if self.looking is None:  # of the others what they give is checked where they are opened
            check_classifier(file)
        return file

    @property
    def _places(
        self,
    ) -> tuple[
        Path,
        str,
        int | Literal["auto"] | None,
        Role | None,
        DecodeLimits,
        str | None,
        Path | None,
    ]:
        """What detectors and segmenters take, in their order."""
        return (
            self.path,
            self.provider,
            self.threads,
            self.model,
            self.limits,
            self.output,
            self.trust,
        )

    @property
    def _more(
        self,
    ) -> tuple[Path, str, int | Literal["auto"] | None, Decoding, Role | None, DecodeLimits]:
        """What both take, in their order."""
        return self.path, self.provider, self.threads, self.decoding, self.model, self.limits


class Answerer:
    """A model that makes rows.

    Images are run one by one, so that a row does not depend on which images happen to be beside it: within a
    batch the last bit of a float32 may round differently.

    Args:
        opening: of the model.

    Raises:
        VitEdgeError: as `Classifier` and `Embedder`.
    """

    def __init__(self, opening: Opening) -> None:
        self.opening = opening
        self._model: Classifier | Embedder | Detector | Segmenter
        opened: dict[Task, Callable[[], Classifier | Embedder | Detector | Segmenter]] = {
            Task.CLASSIFY: opening.classifier,
            Task.EMBED: opening.embedder,
            Task.DETECT: opening.detector,
            Task.SEGMENT: opening.segmenter,
        }
        self._model = opened[opening.task]()

    def rows(self, names: Sequence[str]) -> Rows:
        """One row per image, in their order; the next are decoded meanwhile."""
        model, looking = self._model, self.opening.looking
        if isinstance(model, Classifier):
            yield from _each(
                names,
                model.batch(names, 1, self.opening.top),
                lambda name, found: Row(name, None, tuple(found)),
            )
        elif isinstance(model, Detector) and looking is not None:
            found_by = model.batch(names, 1, looking.threshold)
            yield from _each(names, found_by, lambda name, found: Row(name, None, objects=found))
        elif isinstance(model, Segmenter) and looking is not None and looking.masks is not None:
            paint = functools.partial(_painted, folder=looking.masks, threshold=looking.threshold)
            yield from _each(
                names, model.batch(names, 1), lambda name, found: Row(name, None, painted=paint(name, found))
            )
        elif isinstance(model, Embedder):
            kind = self.opening.kind or "pooled"
            yield from _each(
                names, model.batch(names, 1), lambda name, found: Row(name, None, vector=found.of(kind))
            )


@dataclasses.dataclass(frozen=True)
class AnswerTask:
    """Rows of images, as a worker makes them."""

    opening: Opening
    model_sha256: str  # of the file that is meant

    @property
    def threads(self) -> int:
        """Of one worker."""
        return threads_of(self.opening.threads)

    @property
    def goes_on(self) -> str:
        """Rows that are written stay."""
        return "to go on"

    def opened(self) -> Callable[[Chunk], list[Row]]:
        """The model loaded.

        Raises:
            UsageError: another file lies there.
            VitEdgeError: as `Answerer`.
        """
        found = self.opening.read()
        if found.instead_of is not None:
            raise UsageError(found.instead_of)  # rows of one job are of one file
        if found.sha256 != self.model_sha256:
            raise UsageError(f"{found.path} is another file there than here; copy the bundle again")
        answerer = Answerer(self.opening)
        return lambda names: list(answerer.rows([str(name) for name in names]))


def rows_of(
    answerer: Answerer, model_sha256: str, names: Sequence[str], spread: Spread, place: Place
) -> Rows:
    """One row per image, in the order of the names.

    Args:
        answerer: of this process.
        model_sha256: of its model.
        names: of the images.
        spread: over workers, each with a model of its own.
        place: what must be the same on each machine of an engine.

    Raises:
        VitEdgeError: as `results_of`.
    """
    if spread.alone or (spread.engine is None and len(names) <= CHUNK):
        yield from answerer.rows(names)
        return
    task = AnswerTask(_shared(answerer.opening), model_sha256)
    for rows in results_of(task, cut(names), spread, place):
        yield from rows


def _shared(opening: Opening) -> Opening:
    """For one of several workers, in whatever folder it begins: one thread unless threads are stated."""
    path, trust = opening.path.absolute(), opening.trust and opening.trust.absolute()
    return dataclasses.replace(opening, path=path, trust=trust, threads=shared_threads(opening.threads))


def cut(names: Sequence[str]) -> list[Sequence[str]]:
    """What a worker is given at a time."""
    return [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]


def _each(
    names: Sequence[str], answers: Iterable[Answer | ImageError], row: Callable[[str, Answer], Row]
) -> Rows:
    """The row of each answer; of an image that was refused, why."""
    for name, found in zip(names, answers, strict=True):
        yield Row(name, str(found)) if isinstance(found, ImageError) else row(name, found)


def _painted(name: str, found: Segmentation, folder: Path, threshold: float) -> Painted:
    """What was found, its mask written; a row names only a mask that is there."""
    mask = found.mask(threshold)
    path = folder / mask_name(name)
    write_mask(path, mask)
    seen = float((mask != UNSEEN).mean())
    return Painted(f"{folder.name}/{path.name}", found.size, seen, found.shares(mask))
