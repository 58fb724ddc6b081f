"""Strict reading of JSON and TOML values: one small reader per type, each names the key that is wrong.

Every reader raises ValueError with a clause such as "size must be an integer, got '3'"; the caller knows the
file and turns it into its own error.
"""

import json
import math
from collections.abc import Mapping
from typing import Any


def parse_json(data: bytes | str, where: str) -> Any:
    """Parse JSON; refuses duplicate keys, NaN and Infinity, text that is not UTF-8 and absurd nesting.

    Raises:
        ValueError: the text is not such JSON; the message starts with `where`.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{where} is not valid JSON ({error})") from None


def exact_keys(
    raw: object, required: frozenset[str], where: str, optional: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """An object that has every required key and none beyond the optional ones.

    Raises:
        ValueError: no object, or unknown or missing keys.
    """
    fields = mapping(raw, where)
    unknown, missing = sorted(set(fields) - required - optional), sorted(required - set(fields))
    if unknown:
        raise ValueError(f"{where} has the unknown key {unknown[0]!r}")
    if missing:
        raise ValueError(f"{where} lacks the key {missing[0]!r}")
    return fields


def mapping(raw: object, where: str) -> dict[str, Any]:
    """An object with string keys."""
    if not isinstance(raw, Mapping) or not all(isinstance(key, str) for key in raw):
        raise ValueError(f"{where} must be an object, got {type(raw).__name__}")
    return dict(raw)


def string(raw: object, where: str) -> str:
    """A non-empty string."""
    if not isinstance(raw, str) or not raw:
        raise ValueError(f"{where} must be a non-empty string, got {raw!r}")
    return raw


def strings(raw: object, where: str) -> tuple[str, ...]:
    """A list of non-empty strings."""
    return tuple(string(item, f"each item of {where}") for item in sequence(raw, where))


def sequence(raw: object, where: str) -> list[Any]:
    """A list."""
    if not isinstance(raw, list):
        raise ValueError(f"{where} must be a list, got {type(raw).__name__}")
    return raw


def boolean(raw: object, where: str) -> bool:
    """True or false, not 0 or 1."""
    if not isinstance(raw, bool):
        raise ValueError(f"{where} must be true or false, got {raw!r}")
    return raw


def integer(raw: object, where: str, least: int, most: int) -> int:
    """An integer within [least, most]."""
    if isinstance(raw, bool) or not isinstance(raw, int) or not least <= raw <= most:
        raise ValueError(f"{where} must be an integer from {least} to {most}, got {raw!r}")
    return raw


def number(raw: object, where: str) -> float:
    """A finite number."""
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        raise ValueError(f"{where} must be a finite number, got {raw!r}")
    return float(raw)


def choice(raw: object, where: str, choices: tuple[Any, ...]) -> Any:
    """One of the literal choices."""
    if not any(type(raw) is type(each) and raw == each for each in choices):
        raise ValueError(f"{where} must be one of {', '.join(map(str, choices))}, got {raw!r}")
    return raw


def sha256(raw: object, where: str) -> str:
    """A SHA-256 as 64 lower-case hexadecimal digits."""
    if not isinstance(raw, str) or len(raw) != 64 or not set(raw) <= set("0123456789abcdef"):
        raise ValueError(f"{where} must be 64 lower-case hexadecimal digits, got {raw!r}")
    return raw


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
