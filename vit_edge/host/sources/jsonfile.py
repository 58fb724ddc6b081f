"""Reads small JSON files and values strictly."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_edge.errors import SourceError
from vit_edge.fields import is_finite, parse_json, shown
from vit_edge.files import read_file

MOST_UNITS = 2**20  # of a width, or of a number of classes
MOST_PIXELS = 8192  # of a side, as in PreprocessSpec

_MAX_BYTES = 64 * 2**20  # of a file


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        SourceError: no such file, not UTF-8 JSON, or JSON of another type.
    """
    value = read_any(path)
    if not isinstance(value, dict):
        raise SourceError(f"{path} must hold a JSON object, not a {type(value).__name__}")
    return value


def read_any(path: Path) -> object:
    """The JSON value in a file.

    Raises:
        SourceError: no such file, or not UTF-8 JSON.
    """
    try:
        value: object = parse_json(read_file(path, _MAX_BYTES), "it")
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}): restore it") from None
    except ValueError as error:
        raise SourceError(f"{path} is not JSON: restore it from its publisher ({error})") from None
    return value


def integer(
    raw: Mapping[str, Any],
    key: str,
    where: str,
    default: int | None = None,
    least: int = 0,
    most: int = MOST_UNITS,
) -> int:
    """The integer under a key, within [least, most]; SourceError names the key."""
    value = raw.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise SourceError(f"{where}: {key} must be an integer, got {shown(value)}")
    if not least <= value <= most:
        raise SourceError(f"{where}: {key} must be from {least} to {most}, got {shown(value)}")
    return value


def text(raw: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str | None:
    """The text under a key, absent or null meaning the default; SourceError names the key."""
    value = raw.get(key)
    if value is None:
        return default
    if not isinstance(value, str):
        raise SourceError(f"{where}: {key} must be text, got {shown(value)}")
    return value


def number(raw: Mapping[str, Any], key: str, where: str, default: float) -> float:
    """The number under a key; SourceError names the key."""
    value = raw.get(key, default)
    if not is_finite(value):
        raise SourceError(f"{where}: {key} must be a finite number, got {shown(value)}")
    return float(value)


def flag(raw: Mapping[str, Any], key: str, where: str, default: bool) -> bool:
    """The true or false under a key, absent or null meaning the default; SourceError names the key."""
    value = raw.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise SourceError(f"{where}: {key} must be true or false, got {shown(value)}")
    return value


def sides(value: object, key: str, where: str) -> tuple[int, int]:
    """(height, width) from an integer, [h, w] or {"height": h, "width": w}; SourceError names the key."""
    pair = value
    if isinstance(value, int):
        pair = [value, value]
    elif isinstance(value, Mapping) and set(value) == {"height", "width"}:
        pair = [value["height"], value["width"]]
    if (
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(side) is int and 0 < side <= MOST_PIXELS for side in pair)
    ):
        return pair[0], pair[1]
    raise SourceError(
        f"{where}: {key} must be a size or a height and a width in pixels, each up to {MOST_PIXELS}, "
        f"got {shown(value)}"
    )
