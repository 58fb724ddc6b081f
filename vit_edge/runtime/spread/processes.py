"""Processes of this machine that work on chunks."""

import collections
import contextlib
import functools
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, TypeVar

from vit_edge.errors import StepError
from vit_edge.runtime.spread.task import Chunk, Task

Result = TypeVar("Result")

_AHEAD = 3  # chunks for each process that wait or are worked on


def results_of_processes(
    task: Task[Result], chunks: Sequence[Chunk], workers: int
) -> Generator[Result, None, None]:
    """One result per chunk, in their order.

    Args:
        task: what to do; each process opens it once.
        chunks: what to do it with.
        workers: processes at most.

    Raises:
        StepError: a process ended by itself.
        VitEdgeError: as the task.
    """
    chunk, left = chunks[0], iter(chunks)
    running: collections.deque[tuple[Chunk, Future[Result]]] = collections.deque()
    context = multiprocessing.get_context("spawn")  # a fork would find onnxruntime's threads gone
    pool = ProcessPoolExecutor(min(workers, len(chunks)), context, _begin, (task,))
    try:
        for chunk in itertools.islice(left, _AHEAD * workers):
            running.append((chunk, _submitted(pool, chunk)))
        while running:
            chunk, future = running.popleft()
            yield future.result()
            running.extend((more, _submitted(pool, more)) for more in itertools.islice(left, 1))
    except BrokenProcessPool:
        # The pool's own thread is closing its pipes; an interpreter that ended meanwhile would write to them.
        with contextlib.suppress(OSError):
            pool.shutdown(wait=True, cancel_futures=True)
        behind = _AHEAD * workers * len(chunks[0])
        raise StepError(
            f"a worker process ended by itself (killed, or out of memory) at {chunk[0]} or one of the "
            f"{behind} images behind it; run the same command again {task.goes_on}, with fewer --workers if "
            "memory is short"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _submitted(pool: ProcessPoolExecutor, chunk: Chunk) -> Future[Any]:
    """A chunk handed to the pool, also where that has lost a process and only begun to close its pipes."""
    try:
        return pool.submit(_work, chunk)
    except OSError as error:
        lost: Future[Any] = Future()
        lost.set_exception(BrokenProcessPool(str(error)))
        return lost


_task: Task[Any] | None = None  # of a worker process, which is started for one


def _begin(task: Task[Any]) -> None:
    """In a worker: end with whoever started it, and leave Ctrl-C to that one."""
    global _task  # noqa: PLW0603  what a pool's initializer is given has no other place
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _task = task


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)  # whoever waits for the results is gone


@functools.cache
def _opened() -> Callable[[Chunk], Any]:
    """Once, and not by the initializer: of what that raises, a pool tells nobody more than that it broke."""
    assert _task is not None  # noqa: S101  `_begin` has set it
    return _task.opened()


def _work(chunk: Chunk) -> Any:
    return _opened()(chunk)
