"""CPU time of a thread in chosen functions and beside; what a photo costs besides Pillow and onnxruntime."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image, ImageFile

from tools.plain_pillow import PlainPillow
from vit_edge import Classifier
from vit_edge.runtime.image import source
from vit_edge.runtime.image.preprocess import normalize

PASSES = 5  # over the photos, for that figure

Call = Callable[[Path], object]


def added_ms(contender: Classifier | PlainPillow, paths: Sequence[Path]) -> dict[str, float]:
    """CPU time a photo costs outside reading its file, Pillow's decoding and resizing and onnxruntime's run.

    Quartiles over photos, several times each, with one thread, so that all of it runs in this one; and the
    median of the part that is arithmetic: packing pixels and normalising them. Most of the rest is spent
    waiting for memory, since a run of the model leaves no cache as it was: a neighbour that fills the caches
    of a shared machine shows here more than anywhere.
    """
    clock = Clock()
    owner: object = contender._session if isinstance(contender, Classifier) else contender
    name = "_session" if isinstance(contender, Classifier) else "session"
    watched = Watched(clock.watch(getattr(owner, name).run))
    with (
        mock.patch.object(source, "_read_file", clock.watch(source._read_file)),
        mock.patch.object(Image, "open", clock.watch(Image.open)),
        mock.patch.object(ImageFile.ImageFile, "load", clock.watch(ImageFile.ImageFile.load)),
        mock.patch.object(Image.Image, "resize", clock.watch(Image.Image.resize)),
        mock.patch.object(owner, name, watched),
    ):
        times = [1000 * clock.outside(contender, path) for _ in range(PASSES) for path in paths]
    low, median, high = np.quantile(times, (0.25, 0.5, 0.75))
    figures = {"low": float(low), "median": float(median), "high": float(high)}
    if isinstance(contender, PlainPillow):  # there it is not set apart
        return figures
    return figures | {"arithmetic": arithmetic_ms(contender, paths)}


def arithmetic_ms(classify: Classifier, paths: Sequence[Path]) -> float:
    """CPU time a photo's pixels take to be packed and, for a float model, normalised."""
    clock = Clock()
    with (
        mock.patch.object(Image.Image, "tobytes", clock.watch(Image.Image.tobytes)),
        mock.patch("vit_edge.runtime.session.session.normalize", clock.watch(normalize)),
    ):
        times = [1000 * clock.within(classify, path) for _ in range(PASSES) for path in paths]
    return float(np.median(times))


@dataclasses.dataclass(frozen=True)
class Watched:
    """Stands in for onnxruntime's session; a mock would cost more than what is measured."""

    run: Call


class Clock:
    """Adds up the thread's CPU time inside the functions that it watches."""

    def __init__(self) -> None:
        self.inside, self.depth, self.calls, self.own = 0.0, 0, 0, 0.0
        nothing = self.watch(lambda _: None)
        self.own = min(self.outside(nothing, Path()) for _ in range(1000))  # what watching costs at least

    def watch(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted; calls of one watched function by another count once."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.depth += 1
            started = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.depth -= 1
                if self.depth == 0:
                    self.calls += 1
                    self.inside += time.thread_time() - started

        return watched

    def within(self, call: Call, path: Path) -> float:
        """Seconds of CPU time that one call spends inside them."""
        self.inside = 0.0
        call(path)
        return self.inside

    def outside(self, call: Call, path: Path) -> float:
        """Seconds of CPU time that one call spends outside the watched functions."""
        self.inside, self.calls = 0.0, 0
        started = time.thread_time()
        call(path)
        return time.thread_time() - started - self.inside - self.calls * self.own
