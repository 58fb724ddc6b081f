"""The pass over calibration images, by one process or several workers, gone on with where it ended."""

import contextlib
import dataclasses
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path

from threadpoolctl import threadpool_limits

from vit_edge.arrays import Pixels
from vit_edge.host.quantize.cache import CalibrationFile, key_of
from vit_edge.host.quantize.cores import shared_cores
from vit_edge.host.quantize.observe import Observer
from vit_edge.host.quantize.sample import rows_of_each
from vit_edge.host.quantize.tally import Activation, Tallies
from vit_edge.progress import Step
from vit_edge.runtime.image.limits import DEFAULT_LIMITS, DecodeLimits
from vit_edge.runtime.image.preprocess import load_pixels
from vit_edge.runtime.spread.results import results_of
from vit_edge.runtime.spread.task import ALONE, Chunk, Place, Spread
from vit_edge.spec import PreprocessSpec

PART = 16  # images whose sums are added up by themselves, be it in this process or in another
SAVE_EVERY = 4 * PART  # images


class Reader:
    """Decodes image files; pixels that are wanted again are kept.

    Args:
        preprocess: from image to model input.
        kept: the files whose pixels are kept.
        limits: what they are decoded within.
    """

    def __init__(
        self,
        preprocess: PreprocessSpec,
        kept: Collection[Path] = (),
        limits: DecodeLimits = DEFAULT_LIMITS,
    ) -> None:
        self.preprocess, self.kept, self.limits = preprocess, kept, limits
        self.pixels: dict[Path, Pixels] = {}

    def __call__(self, path: Path) -> Pixels:
        """uint8 (H, W, 3).

        Raises:
            ImageError: the image cannot be read.
        """
        pixels = self.pixels.get(path)
        if pixels is None:
            pixels = load_pixels(path, self.preprocess, self.limits)
            if path in self.kept:
                self.pixels[path] = pixels
        return pixels


def observed(
    observer: Observer,
    images: Sequence[Path],
    read: Reader,
    folder: Path | None,
    progress: Step,
    spread: Spread = ALONE,
) -> dict[str, Activation]:
    """One pass over image files, or the rest of one, or none where a finished one was kept.

    The images are cut in parts, whose sums are added in their order: the last bit of the result does not
    depend on who works on them.

    Args:
        observer: of the float model.
        images: the files.
        read: decodes them.
        folder: where calibrations are kept; None: nowhere.
        progress: called with (done, count) after each image, or after each part of a worker.
        spread: who works on the parts.

    Raises:
        ImageError: an image cannot be read.
        ModelError: an activation is not finite.
        UsageError: the folder cannot be written.
        StepError: a worker ended by itself, or refused.
    """
    kept = None if folder is None else CalibrationFile(folder, key_of(observer, images, read.preprocess))
    calibration = Tallies() if kept is None else kept.load()
    start = calibration.done
    if start:
        progress(start, len(images))
    told = _told_from(progress, calibration, len(images))
    alone = spread.engine is None and (
        spread.alone or len(images) - start <= PART
    )  # one part is no work to share
    sampled = rows_of_each(len(images))
    parts = _parts(observer, images[start:], sampled, read, told, ALONE if alone else spread)
    with contextlib.closing(parts):
        for part in parts:
            calibration.take(part)
            if not alone:
                progress(calibration.done, len(images))
            if kept is not None and (calibration.done % SAVE_EVERY == 0 or calibration.done == len(images)):
                kept.save(calibration)
    return calibration.finished()


@dataclasses.dataclass(frozen=True)
class ObserveTask:
    """Parts of a pass, as a worker makes them."""

    observer: Observer
    preprocess: PreprocessSpec
    limits: DecodeLimits
    sampled: int
    threads: int = 1

    @property
    def goes_on(self) -> str:
        """What was kept in a folder stays."""
        return "to go on where calibration was last kept"

    def opened(self) -> Callable[[Chunk], Tallies]:
        """The float model loaded."""
        threadpool_limits(self.threads, "blas")  # of this process, which is one of several
        self.observer.open(self.threads)
        read = Reader(self.preprocess, (), self.limits)

        def observed_part(paths: Chunk) -> Tallies:
            made = Tallies(sampled=self.sampled)
            for path in paths:
                self.observer.add(made, read(Path(path)), name=str(path))
            return made

        return observed_part


def _told_from(progress: Step, calibration: Tallies, count: int) -> Callable[[int], None]:
    """Tells of images that are done beyond the calibration so far."""
    return lambda more: progress(calibration.done + more, count)


def _parts(
    observer: Observer,
    images: Sequence[Path],
    sampled: int,
    read: Reader,
    told: Callable[[int], None],
    spread: Spread,
) -> Generator[Tallies, None, None]:
    cuts = [images[start : start + PART] for start in range(0, len(images), PART)]
    if not spread.alone:
        task = ObserveTask(observer, read.preprocess, read.limits, sampled)
        yield from results_of(task, cuts, spread, Place.of(images))
        return
    with shared_cores() as pool:
        decoded = _one_ahead(pool, read, images)
        for paths in cuts:
            part = Tallies(sampled=sampled)
            for path, pixels in zip(paths, decoded, strict=False):  # which go on in the next part
                observer.add(part, pixels, pool.map, str(path))
                told(part.done)
            yield part


def _one_ahead(pool: Executor, read: Reader, paths: Sequence[Path]) -> Iterator[Pixels]:
    """The images in their order, the next one being decoded meanwhile."""
    coming = deque(pool.submit(read, path) for path in paths[:1])
    for path in paths[1:]:
        coming.append(pool.submit(read, path))
        yield coming.popleft().result()
    for last in coming:
        yield last.result()
