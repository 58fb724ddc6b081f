"""Threads that share the cores of this machine."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from threadpoolctl import threadpool_limits

from vit_edge.runtime.device.machine import usable_cores


@contextlib.contextmanager
def shared_cores() -> Iterator[ThreadPoolExecutor]:
    """A thread for each core; BLAS keeps to the one that calls it: its own would fight for the same cores."""
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(usable_cores()) as pool:
        yield pool
