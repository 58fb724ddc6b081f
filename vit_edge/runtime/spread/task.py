"""What is spread over workers, and how many of them there are."""

import dataclasses
import enum
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from vit_edge import __version__
from vit_edge.errors import UsageError

Result_co = TypeVar("Result_co", covariant=True)

Chunk = Sequence[str] | Sequence[Path]  # images that a worker is given at a time; never empty


class Task(Protocol[Result_co]):
    """What to do with chunks of images; it travels to other processes, so it can be pickled."""

    @property
    def threads(self) -> int:
        """That one worker uses."""
        ...

    @property
    def goes_on(self) -> str:
        """What becomes of the work if the same command is run again, behind "run the same command again"."""
        ...

    def opened(self) -> Callable[[Chunk], Result_co]:
        """In a worker, once: whatever is loaded for all chunks.

        Raises:
            VitEdgeError: it cannot be loaded.
        """
        ...


class Engine(enum.Enum):
    """What spreads work over workers; the value is what users call it."""

    RAY = "ray"


@dataclasses.dataclass(frozen=True)
class Spread:
    """How many work, and by what."""

    workers: int | None = None  # processes; None: one, or of an engine one for each CPU that it has
    engine: Engine | None = None  # None: processes of this machine

    def __post_init__(self) -> None:
        """Refuse to work with nobody."""
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers must be at least 1, got {self.workers}")

    @property
    def alone(self) -> bool:
        """Whether this process does all of it."""
        return self.engine is None and (self.workers or 1) == 1


ALONE = Spread()


@dataclasses.dataclass(frozen=True)
class Place:
    """What must be the same wherever a worker runs."""

    base: str | None = None  # the folder that relative names begin in
    folders: tuple[str, ...] = ()  # of images
    version: str = __version__

    @classmethod
    def of(cls, names: Iterable[str | Path], folders: Iterable[str | Path] = ()) -> "Place":
        """From this process's: the folder it is in, if a name is relative, and folders of images."""
        base = None if all(map(os.path.isabs, names)) else os.path.realpath(".")
        return cls(base, tuple(os.path.abspath(each) for each in folders if os.path.isdir(each)))  # noqa: PTH100, PTH112


def threads_of(threads: int | str | None) -> int:
    """Of one of several workers, which share the cores: one unless a number is asked for."""
    return threads if isinstance(threads, int) else 1


def shared_threads(threads: int | Literal["auto"] | None) -> int | Literal["auto"]:
    """What a session of one of several workers is opened with: one thread unless something is asked for."""
    return 1 if threads is None else threads
