"""Which images a job is about: folders, patterns, lists, and the share of one of several machines."""

import dataclasses
import glob
import os
import re
import zlib
from collections.abc import Sequence
from typing import Self

from vit_edge.errors import DatasetError, UsageError
from vit_edge.runtime.evaluate.folder import image_names
from vit_edge.runtime.image.limits import DecodeLimits

MOST_LIST_BYTES = 2**31  # of a list of names: some twenty million of them


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` shares of the images, numbered from 1.

    A share is told from an image's name, not from its place in a list: images that are added meanwhile move
    no other to another share.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        """Refuse a share that there is not."""
        if not 1 <= self.index <= self.count:
            raise UsageError(f"--shard {self.index}/{self.count} is no share; give 1/N to N/N")

    @classmethod
    def of(cls, text: str) -> Self:
        """Read `2/8`.

        Raises:
            UsageError: no such thing.
        """
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if found is None:
            raise UsageError(f"--shard {text} is no share; give I/N, such as 2/8")
        return cls(int(found[1]), int(found[2]))

    def takes(self, name: str) -> bool:
        """Whether an image of this name, below its folder, belongs to it."""
        return zlib.crc32(os.fsencode(name.replace(os.sep, "/"))) % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


WHOLE = Shard(1, 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What a job is about."""

    given: tuple[str, ...]  # images, and folders with all images below them
    patterns: tuple[str, ...] = ()  # of names below the folders, as `glob` has them; () takes every image
    shard: Shard = WHOLE


def names_of(wanted: Wanted, limits: DecodeLimits) -> list[str]:
    """Every image of a job once: as they were given, those of a folder sorted.

    A name is the path by which the image is reached. What a pattern or a list names is taken whatever its
    name ends in; of a folder, files that end as images do.

    Raises:
        DatasetError: a folder or part of it cannot be read, or there is no image at all.
    """
    found: dict[str, None] = {}
    any_share = 0
    for source in wanted.given:
        is_folder = os.path.isdir(source)  # noqa: PTH112  a million names: no Path for each
        names = _below(source, wanted.patterns, limits) if is_folder else [source]
        any_share += len(names)
        taken = filter(wanted.shard.takes, names)
        found.update(
            dict.fromkeys(_reached(source, name) for name in taken) if is_folder else dict.fromkeys(taken)
        )
    if not any_share:
        where = ", ".join(wanted.given) or "the list"
        what = f" that matches {' or '.join(wanted.patterns)}" if wanted.patterns else ""
        raise DatasetError(
            f"{where} holds no image{what}; give a folder of images, or allow their format "
            "with --allow-format"
        )
    return list(found)


def listed(data: bytes) -> tuple[str, ...]:
    """Names of a list: one per line, or with a zero byte between them as `find -print0` writes them.

    Raises:
        DatasetError: no name, or a line that is none.
    """
    separator = b"\0" if b"\0" in data else b"\n"
    lines = [line.removesuffix(b"\r") if separator == b"\n" else line for line in data.split(separator)]
    names = tuple(os.fsdecode(line) for line in lines if line)
    if not names:
        raise DatasetError("the list names no image; give one path per line")
    return names


def _below(folder: str, patterns: Sequence[str], limits: DecodeLimits) -> list[str]:
    if not patterns:
        return image_names(folder, limits)
    found = {
        name
        for pattern in patterns
        for name in glob.iglob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207
        if os.path.isfile(os.path.join(folder, name))  # noqa: PTH113, PTH118
    }
    return sorted(found)


def _reached(folder: str, name: str) -> str:
    return os.path.normpath(os.path.join(folder, name))  # noqa: PTH118
