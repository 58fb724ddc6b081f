"""The models of a comparison, run by this process or by workers that open them anew."""

import dataclasses
import hashlib
from collections.abc import Callable, Generator, Sequence
from typing import Generic, TypeVar

from vit_edge.errors import KernelsError, UsageError
from vit_edge.files import read_file
from vit_edge.runtime.evaluate.answers import batches_of
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.image.limits import DecodeLimits
from vit_edge.runtime.model.file import MOST_BYTES, ModelFile
from vit_edge.runtime.model.own_kernels import NotHere, check_kernels
from vit_edge.runtime.session.session import SessionSettings
from vit_edge.runtime.spread.results import results_of
from vit_edge.runtime.spread.task import Chunk, Place, Spread, shared_threads, threads_of

Result = TypeVar("Result")
Work = Callable[[Chunk], Result]  # what models give for a batch of image files


@dataclasses.dataclass(frozen=True)
class ModelsTask(Generic[Result]):
    """Models that workers open by their paths; of each the bytes must be those that are meant."""

    models: tuple[ModelFile, ...]  # without their bytes
    session: SessionSettings
    limits: DecodeLimits
    opens: Callable[[tuple[ModelFile, ...], SessionSettings, DecodeLimits], Work[Result]]

    @property
    def threads(self) -> int:
        """Of one worker."""
        return threads_of(self.session.threads)

    @property
    def goes_on(self) -> str:
        """Nothing is kept of a comparison that ends early."""
        return "from its beginning"

    def opened(self) -> Work[Result]:
        """The models loaded.

        Raises:
            UsageError: another file lies there.
            VitEdgeError: as `Session`.
        """
        return self.opens(tuple(_loaded(model) for model in self.models), self.session, self.limits)


@dataclasses.dataclass(frozen=True)
class Runs(Generic[Result]):
    """How batches of images are run."""

    here: Work[Result]
    task: ModelsTask[Result]
    spread: Spread

    def of(self, images: ImageSet, batch_size: int) -> Generator[Result, None, None]:
        """One result per batch, in their order.

        Raises:
            UsageError: a batch size below 1.
            DatasetError: no image.
            VitEdgeError: as `results_of`.
        """
        cuts = batches_of(images, batch_size)
        return results_of(self.task, cuts, self.spread, Place.of(images.paths), self.here)


def runs(
    models: Sequence[ModelFile],
    session: SessionSettings,
    limits: DecodeLimits,
    opens: Callable[[tuple[ModelFile, ...], SessionSettings, DecodeLimits], Work[Result]],
    spread: Spread,
) -> Runs[Result]:
    """Models opened in this process, so that what cannot be opened is refused at once, and for workers.

    Args:
        models: from `read_model`, with their preprocessing.
        session: how they are run; a worker takes one thread where no number is stated.
        limits: what images are decoded within.
        opens: a function of a module, which other processes can name.
        spread: who runs them.

    Raises:
        VitEdgeError: as `Session`.
    """
    shared = dataclasses.replace(session, threads=shared_threads(session.threads))
    without = tuple(dataclasses.replace(each, data=b"", path=each.path.absolute()) for each in models)
    task = ModelsTask(without, shared, limits, opens)
    return Runs(opens(tuple(models), session, limits), task, spread)


def _loaded(model: ModelFile) -> ModelFile:
    try:
        data = read_file(model.path, MOST_BYTES)
    except OSError as error:
        raise UsageError(f"{model.path} cannot be read there ({error.strerror}); copy the model") from None
    if hashlib.sha256(data).hexdigest() != model.sha256:
        raise UsageError(f"{model.path} is another file there than here; copy it again")
    if model.own_kernels:
        try:
            check_kernels()
        except NotHere as error:
            raise KernelsError(f"{model.path} {error}") from None
    return dataclasses.replace(model, data=data)
