"""The results of chunks in their order, whoever works on them."""

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from vit_edge.runtime.spread.on_ray import check_ray, results_of_ray
from vit_edge.runtime.spread.processes import results_of_processes
from vit_edge.runtime.spread.task import Chunk, Place, Spread, Task

Result = TypeVar("Result")


def check_spread(spread: Spread) -> None:
    """Refuse before any work is done what cannot spread it.

    Raises:
        MissingExtraError: Ray is asked for and not installed.
    """
    if spread.engine is not None:
        check_ray()


def results_of(
    task: Task[Result],
    chunks: Sequence[Chunk],
    spread: Spread,
    place: Place,
    here: Callable[[Chunk], Result] | None = None,
) -> Generator[Result, None, None]:
    """One result per chunk, in their order.

    Args:
        task: what to do.
        chunks: what to do it with.
        spread: who does it.
        place: what must be the same on each machine of an engine.
        here: the task opened in this process, where it is already.

    Raises:
        MissingExtraError: the engine is not installed.
        UsageError: more workers than the engine has CPUs for.
        StepError: a worker ended by itself, or refused.
        VitEdgeError: as the task.
    """
    if spread.engine is not None and chunks:
        yield from results_of_ray(task, chunks, spread.workers, place)
    elif (spread.workers or 1) > 1 and len(chunks) > 1:
        yield from results_of_processes(task, chunks, spread.workers or 1)
    elif chunks:
        work = here or task.opened()
        for chunk in chunks:
            yield work(chunk)
