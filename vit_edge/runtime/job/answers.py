"""The rows of images, by this process or by several workers."""

import dataclasses
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Literal

from vit_edge.errors import ImageError, UsageError
from vit_edge.manifest import Role
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, DecodeLimits
from vit_edge.runtime.image.preprocess import Decoding
from vit_edge.runtime.job.rows import Row
from vit_edge.runtime.model.file import ModelFile, check_classifier, read_model
from vit_edge.runtime.model.outputs import OutputWanted
from vit_edge.runtime.predict.classifier import Classifier
from vit_edge.runtime.predict.embedder import Embedder, read_embedder
from vit_edge.runtime.spread.results import results_of
from vit_edge.runtime.spread.task import Chunk, Place, Spread, threads_of
from vit_edge.spec import OutputKind

Rows = Generator[Row, None, None]

CHUNK = 16  # images that a worker is given at a time


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
        check_classifier(file)
        return file

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
        self._model: Classifier | Embedder
        self._model = opening.classifier() if opening.kind is None else opening.embedder()

    def rows(self, names: Sequence[str]) -> Rows:
        """One row per image, in their order; the next are decoded meanwhile."""
        if isinstance(self._model, Classifier):
            for name, answer in zip(names, self._model.batch(names, 1, self.opening.top), strict=True):
                yield (
                    _failed(name, answer)
                    if isinstance(answer, ImageError)
                    else Row(name, None, tuple(answer))
                )
            return
        for name, found in zip(names, self._model.batch(names, 1), strict=True):
            if isinstance(found, ImageError):
                yield _failed(name, found)
            else:
                yield Row(name, None, vector=getattr(found, self.opening.kind or "pooled"))


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
    threads = 1 if opening.threads is None else opening.threads
    return dataclasses.replace(opening, path=path, trust=trust, threads=threads)


def cut(names: Sequence[str]) -> list[Sequence[str]]:
    """What a worker is given at a time."""
    return [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]


def _failed(name: str, error: ImageError) -> Row:
    return Row(name, str(error))
