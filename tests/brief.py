"""How long tests measure where they do not say so: as many rounds as anyone gets, but no seconds on top.

A time is never asserted, so that a few hundredths of a second are as good as the seconds that users wait for.
"""

import contextlib
from collections.abc import Iterator

import pytest

from vit_edge.runtime.measure import threads
from vit_edge.runtime.measure.timing import Rounds
from vit_edge.runtime.selftest import run

_SHIPPED = Rounds.__init__.__defaults__


@contextlib.contextmanager
def rounds_alone() -> Iterator[None]:
    """Rounds take no more time than they must."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rounds.__init__, "__defaults__", (Rounds().at_least, 0.0))
        for each in (threads.ROUNDS, run.ROUNDS):
            patch.setitem(vars(each), "seconds", 0.0)
        yield


@contextlib.contextmanager
def full_timing() -> Iterator[None]:
    """Rounds take the time that users give them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rounds.__init__, "__defaults__", _SHIPPED)
        yield
