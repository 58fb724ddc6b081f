"""The words of the command line as values: numbers, sizes, formats."""

import argparse
import dataclasses
import enum
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

from vit_edge.runtime.image.limits import DecodeLimits, ImageFormat
from vit_edge.runtime.session.providers import AUTO

M = TypeVar("M", bound=enum.Enum)


def folder(text: str) -> Path:
    """The folder to write."""
    if text == "-":
        raise argparse.ArgumentTypeError("a folder cannot go to standard output; name one")
    return Path(text)


def finite(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def threads(text: str) -> int | Literal["auto"]:
    """A number of threads, or `auto`."""
    if text == AUTO:
        return AUTO
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of threads nor auto") from None


def tokens(text: str) -> int:
    """How many tokens."""
    if not re.fullmatch(r"\d{1,6}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of tokens, which is 0 or more")
    return int(text)


def size(text: str) -> tuple[int, int]:
    """`224`, or `HEIGHTxWIDTH`."""
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a size such as 224 nor HEIGHTxWIDTH")
    height = int(found[1])
    return height, int(found[2] or height)


class Triple(argparse.Action):
    """Three values as a tuple."""

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Keep them."""
        del parser, option
        setattr(namespace, self.dest, tuple(values))


class Allow(argparse.Action):
    """Limits that let one more format in."""

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Add it."""
        del parser, option
        limits: DecodeLimits = getattr(namespace, self.dest)
        formats = dict.fromkeys([*limits.formats, values])
        setattr(namespace, self.dest, dataclasses.replace(limits, formats=tuple(formats)))


def image_format(text: str) -> ImageFormat:
    """A format of images, by its name in lower or upper case."""
    try:
        return ImageFormat[text.upper()]
    except KeyError:
        known = ", ".join(each.name.lower() for each in ImageFormat)
        raise argparse.ArgumentTypeError(f"{text!r} is none of {known}") from None


def one_of(members: Iterable[M]) -> Callable[[str], M]:
    """Reads a member of an enum by its value; a refusal names those there are.

    Args:
        members: that may be chosen, such as the enum itself.
    """
    known = {str(member.value): member for member in members}

    def read(text: str) -> M:
        if text not in known:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(known)}")
        return known[text]

    return read


def names_of(members: Iterable[enum.Enum]) -> str:
    """The choices of an option, as its help shows them."""
    return "{" + ",".join(str(member.value) for member in members) + "}"
