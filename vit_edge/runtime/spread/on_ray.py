"""Results of chunks by the processes of a Ray cluster, in the order of the chunks.

Ray (https://docs.ray.io) places the processes, starts one again that ended, and gives it the images once more
that it had not answered; here the results are put in order, and each is taken once.
"""

import collections
import contextlib
import dataclasses
import functools
import logging
import os
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar, cast

from vit_edge import __version__
from vit_edge.errors import MissingExtraError, StepError, UsageError, VitEdgeError
from vit_edge.runtime.spread.task import Chunk, Place, Task

EXTRA = "ray"

_GIVEN = 2  # chunks that a worker has at a time, so that it need not wait for the next
_AHEAD = 4  # chunks for each worker that may be answered before an earlier one is
_RETRIES = 3  # for images during which a worker ended
_LONGEST_S = 600.0  # without an answer from any worker
_OPENED_S = 30.0  # for a worker whose chunks others have finished meanwhile
_REACHED_S = 10.0  # for the machine of a cluster that is named
_STORE_BYTES = 100 * 2**20  # of memory that a cluster of this machine alone shares; more goes to disk
# Nothing is sent anywhere, graphics processors are left as they are, and workers of a cluster that is started
# here have the priority of other processes.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",
}

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Made:
    """What a worker gives back; an exception would come in Ray's words."""

    result: Any = None
    refusal: str | None = None  # why there is none


class Worker:
    """In a process of the cluster: a task that is opened at the first call, and again where Ray starts anew.

    Args:
        place: what must be the same there.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._work: Callable[[Chunk], Any] | None = None

    def made(self, chunk: Chunk, fetched: Callable[[], Task[Any]]) -> Made:
        """The result of a chunk, or why there is none; an empty one opens the task.

        Args:
            chunk: of images.
            fetched: gives the task; comes with each call, for the worker may have been started anew.
        """
        try:
            if self._work is None:
                self._work = self._opened(fetched())
            return Made(self._work(chunk) if chunk else None)
        except VitEdgeError as error:
            return Made(refusal=f"on {socket.gethostname()}: {error}")

    def _opened(self, task: Task[Any]) -> Callable[[Chunk], Any]:
        place = self._place
        if place.version != __version__:
            raise UsageError(f"vit-edge is {__version__} there and {place.version} here; install one of them")
        for folder in (*place.folders, *([place.base] if place.base else [])):
            if not os.path.isdir(folder):  # noqa: PTH112
                raise UsageError(f"{folder} is no folder there; images must be found by the same paths")
        if place.base is not None:
            os.chdir(place.base)
        return task.opened()


def check_ray() -> None:
    """Refuse before any work is done.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    _ray()


def results_of_ray(
    task: Task[Result], chunks: Sequence[Chunk], workers: int | None, place: Place
) -> Generator[Result, None, None]:
    """One result per chunk, in their order.

    The cluster is the one that the process is connected to, that RAY_ADDRESS names, or that runs on this
    machine; where there is none, one is started and ended again.

    Args:
        task: what to do; each worker opens it once.
        chunks: what to do it with.
        workers: processes; None: as many as the cluster has CPUs for.
        place: what must be the same on each machine.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: more workers than the cluster has CPUs for.
        StepError: a worker cannot open the task, or ended again and again, or none answers.
    """
    ray, threads = _ray(), task.threads
    with _connected(ray, (workers or max((os.cpu_count() or 1) // threads, 1)) * threads) as own:
        count = min(_workers(ray, workers, threads), len(chunks))
        # max_restarts: of a worker, without an end, as machines come and go; images have their own limit.
        remote = ray.remote(num_cpus=threads, max_restarts=-1, max_task_retries=_RETRIES)(Worker)
        team = [remote.remote(place) for _ in range(count)]
        fetched = functools.partial(_fetched, [ray.put(task)])  # large, so sent once
        try:
            yield from in_order(ray, team, chunks, fetched, task.goes_on)
        finally:
            for worker in () if own else team:  # those of a connection of our own end with it, and quietly
                with contextlib.suppress(ray.exceptions.RayError):
                    ray.kill(worker)


def in_order(
    ray: Any,
    team: Sequence[Any],
    chunks: Sequence[Chunk],
    fetched: Callable[[], Task[Any]],
    goes_on: str,
) -> Iterator[Any]:
    """The results of chunks in their order, whatever the order in which workers answer.

    Args:
        ray: the module.
        team: handles of `Worker`.
        chunks: of names.
        fetched: gives the task.
        goes_on: what becomes of the work if the command is run again.

    Raises:
        StepError: as `results_of_ray`.
    """
    opening = {worker.made.remote((), fetched): worker for worker in team}
    running: dict[Any, tuple[int, Any]] = {}
    free: collections.deque[Any] = collections.deque()
    made: dict[int, Any] = {}
    given = told = 0
    while told < len(chunks):
        while free and given < min(len(chunks), told + _AHEAD * len(team)):
            worker = free.popleft()
            running[worker.made.remote(chunks[given], fetched)] = given, worker
            given += 1
        first = min((number for number, _ in running.values()), default=told)
        image = str(chunks[first][0])
        [answered], _ = _answered(ray, [*opening, *running], image, goes_on)
        result = _taken(ray, answered, image, goes_on)
        if answered in opening:
            free.extend([opening.pop(answered)] * _GIVEN)
            continue
        number, worker = running.pop(answered)
        made[number] = result
        free.append(worker)
        while told in made:
            yield made.pop(told)
            told += 1
    for call in opening:  # of workers that there was no chunk for: where one is cut off, Ray complains
        ray.wait([call], num_returns=1, timeout=_OPENED_S)


def _fetched(references: Sequence[Any]) -> Task[Any]:
    import ray

    [task] = ray.get(list(references))
    return cast("Task[Any]", task)


def _answered(ray: Any, running: Sequence[Any], image: str, goes_on: str) -> Any:
    found, left = ray.wait(running, num_returns=1, timeout=_LONGEST_S)
    if not found:
        raise StepError(
            f"no worker of the Ray cluster has answered for {_LONGEST_S / 60:.0f} minutes, {image} is waited "
            f"for: the cluster is taken by others, or a machine is lost; run the same command again {goes_on}"
        )
    return found, left


def _taken(ray: Any, answered: Any, image: str, goes_on: str) -> Any:
    try:
        made: Made = ray.get(answered)
    except ray.exceptions.RayError as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise StepError(
            f"workers of the Ray cluster ended by themselves at {image} or an image near it, and {_RETRIES} "
            f"times again ({said[0].rstrip('.')}); run the same command again {goes_on}"
        ) from None
    if made.refusal is not None:
        raise StepError(f"a worker of the Ray cluster refused {made.refusal}")
    return made.result


def _workers(ray: Any, wanted: int | None, threads: int) -> int:
    most = int(ray.cluster_resources().get("CPU", 0)) // threads
    if most < max(wanted or 1, 1):
        raise UsageError(
            f"the Ray cluster has CPUs for {most} workers of {threads} threads, not for {wanted or 1}; give "
            "fewer --workers or --threads"
        )
    return wanted or most


@contextlib.contextmanager
def _connected(ray: Any, cpus: int) -> Iterator[bool]:
    """Whether the connection is our own, to be ended."""
    if ray.is_initialized():
        yield False
        return
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    named = os.environ.get("RAY_ADDRESS")
    try:
        _reach(named)
        ray.init(address=named or "auto", **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        if named or not isinstance(error, ConnectionError):
            said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            where = f"RAY_ADDRESS={named}" if named else "this machine"
            raise StepError(
                f"no Ray cluster answers at {where} ({said}); start it, or unset RAY_ADDRESS"
            ) from None
        ray.init(
            address="local",
            _node_ip_address="127.0.0.1",  # to be reached from this machine alone
            num_cpus=cpus,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=_STORE_BYTES,
            **quiet,
        )
    try:
        yield True
    finally:
        ray.shutdown()


def _reach(address: str | None) -> None:
    """Try a cluster's door, as Ray itself tries for minutes; OSError: nobody is there."""
    host, _, port = (address or "").rpartition("//")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _REACHED_S).close()


def _ray() -> Any:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", EXTRA) from error
    return ray
