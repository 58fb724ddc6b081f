"""How many images of a batch a model takes at a time: as many as cost least each, found out while working.

More at a time share the work of starting each operator; but what passes between operators grows with them,
and once it no longer fits the processor's cache every image costs more. Where that is depends on model and
machine. So the first full batches are run in portions of different sizes, whose answers are as good as any
others, and what was fastest is kept.
"""

import collections
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

ROUNDS = 3  # batches for each size
CHEAPER = 0.97  # of what a whole batch takes: smaller portions must gain as much

S = TypeVar("S")
R = TypeVar("R")


class Portions:
    """The size of the portions of one model's batches; any number of threads may share one.

    Args:
        batch_size: images in a whole batch.
        divided: whether portions may be smaller.
        now: a clock, seconds.
    """

    def __init__(
        self, batch_size: int, *, divided: bool = True, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self.batch_size, self.now = batch_size, now
        sizes = list(_halved(batch_size)) if divided else [batch_size]
        self.times = dict.fromkeys(sizes, math.inf)  # the least for a whole batch, by size of the portions
        self.coming = collections.deque(sizes * ROUNDS if len(sizes) > 1 else ())
        self.lock = threading.Lock()

    @property
    def size(self) -> int:
        """What is fastest as far as is known; a whole batch where nothing is clearly faster."""
        best = min(self.times, key=lambda size: self.times[size])
        return best if self.times[best] < CHEAPER * self.times[self.batch_size] else self.batch_size

    def run(self, images: Sequence[S], model: Callable[[Sequence[S]], Sequence[R]]) -> list[R]:
        """The answers of a model to a batch, one per image.

        Args:
            images: a whole batch or, at the end or where some were refused, fewer.
            model: answers a portion.
        """
        with self.lock:
            tried = len(images) == self.batch_size and bool(self.coming)
            size = self.coming.popleft() if tried else self.size
        start = self.now()
        answers = [
            answer for first in range(0, len(images), size) for answer in model(images[first : first + size])
        ]
        if tried:
            with self.lock:
                self.times[size] = min(self.times[size], self.now() - start)
        return answers


def _halved(size: int) -> Iterator[int]:
    """The size, half of it and so on, down to one."""
    while size > 1:
        yield size
        size = (size + 1) // 2
    yield 1
