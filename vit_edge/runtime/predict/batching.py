"""Work through many images: the next ones are decoded in the background while the model runs."""

import collections
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from vit_edge.errors import ImageError, UsageError
from vit_edge.runtime.device.machine import usable_cores

_MOST_WORKERS = 4  # each holds one image in full resolution; more would seldom wait for fewer

S = TypeVar("S")
R = TypeVar("R")
T = TypeVar("T")


def in_batches(
    sources: Iterable[S], load: Callable[[S], R], run: Callable[[list[R]], Sequence[T]], batch_size: int
) -> Iterator[T | ImageError]:
    """Load each source in a worker thread and run them `batch_size` at a time in the caller's thread.

    Pillow and onnxruntime let other threads run while they work, so loading and running overlap. Sources are
    taken in the caller's thread, at most two batches (or one and the number of workers) ahead of what has
    been yielded: neither a source nor what it yields may be changed before its answer is there. Closing the
    iterator, or dropping it, stops the workers.

    Args:
        sources: what to load; may be endless.
        load: from a source to a row of the batch; called from several threads.
        run: from the loaded rows of a batch to one answer each.
        batch_size: rows in one run; fewer in the last one, or where a source is refused.

    Yields:
        In the order of the sources, the answer, or the ImageError that `load` raised. Any other error, of
        `load` or of the sources themselves, is raised once all answers before it are yielded.

    Raises:
        UsageError: batch_size below 1, raised at the call; the iterator went through a fork.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}")
    return _batches(sources, load, run, batch_size)


def _batches(
    sources: Iterable[S], load: Callable[[S], R], run: Callable[[list[R]], Sequence[T]], batch_size: int
) -> Iterator[T | ImageError]:
    workers = min(usable_cores(), _MOST_WORKERS)
    process = os.getpid()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="vit_edge-load")
    try:
        loading = _ahead(
            sources, lambda source: pool.submit(_attempt, load, source), max(batch_size, workers)
        )
        while group := list(itertools.islice(loading, batch_size)):
            if os.getpid() != process:  # the workers stayed behind, so waiting would never end
                raise UsageError(
                    "this batch was begun before the process forked; begin it in the new process"
                )
            loaded, failure = _collect(group)
            good = [row for row in loaded if not isinstance(row, ImageError)]
            answers = iter(run(good) if good else ())
            for row in loaded:
                yield row if isinstance(row, ImageError) else next(answers)
            if failure is not None:
                raise failure
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(sources: Iterable[S], submit: Callable[[S], Future[R]], depth: int) -> Iterator[Future[R]]:
    """One future per source in order, with `depth` more already submitted.

    Where the sources themselves raise, the last future holds the error.
    """
    submitted: collections.deque[Future[R]] = collections.deque()
    try:
        for source in sources:
            submitted.append(submit(source))
            if len(submitted) > depth:
                yield submitted.popleft()
    except Exception as error:
        failed: Future[R] = Future()
        failed.set_exception(error)
        submitted.append(failed)
    yield from submitted


def _attempt(load: Callable[[S], R], source: S) -> R | ImageError:
    try:
        return load(source)
    except ImageError as error:
        return error


def _collect(group: Sequence[Future[R]]) -> tuple[list[R], Exception | None]:
    """What was loaded before the first failure, and that."""
    loaded: list[R] = []
    for future in group:
        try:
            loaded.append(future.result())
        except Exception as error:
            return loaded, error
    return loaded, None
