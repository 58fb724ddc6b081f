"""Strict reading of JSON and TOML values: one small reader per type, each names the key that is wrong.

Every reader raises ValueError with a clause such as "size must be an integer, got '3'"; the caller knows the
file and turns it into its own error.
"""

import dataclasses
import enum
import functools
import json
import reprlib
import sys
import typing
from collections.abc import Mapping
from typing import Any, TypeGuard, TypeVar

MAX_DEPTH = 32  # of lists and objects within one another; what we write has 6
MAX_VALUES = 1_000_000  # told from the signs between them; 21,000 labels with commas in them have a tenth

E = TypeVar("E", bound=enum.Enum)

_short = reprlib.Repr()
_short.maxlevel, _short.maxlist, _short.maxdict = 3, 4, 4
_short.maxstring = _short.maxlong = _short.maxother = 80


def parse_json(data: bytes | str, where: str, most: int = MAX_VALUES) -> Any:
    """Parse JSON; refuses duplicate keys, numbers that are not finite, text that is not UTF-8, deep nesting.

    An empty list takes two bytes of text and thirty times as much memory, so their number is bounded, too, by
    `most`.

    Raises:
        ValueError: the text is not such JSON; the message starts with `where`.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        if sum(map(text.count, ",:[{")) > most:
            raise ValueError(f"more than {most} values")
        value = json.loads(
            text, object_pairs_hook=_unique_keys, parse_float=_finite, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{where} is not valid JSON ({error})") from None
    if depth(value) > MAX_DEPTH:
        raise ValueError(f"{where} is nested too deeply")
    return value


def shown(raw: object) -> str:
    """A foreign value for use in a message: its repr, cut to a readable length."""
    return _short.repr(raw)


def depth(value: object) -> int:
    """How many lists and objects lie within one another; without recursion, as the value may be hostile."""
    levels, layer = 0, [value]
    while layer := [each for each in layer if isinstance(each, dict | list)]:
        levels += 1
        layer = [inner for each in layer for inner in (each.values() if isinstance(each, dict) else each)]
    return levels


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
        raise ValueError(f"{where} has the unknown key {shown(unknown[0])}")
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
        raise ValueError(f"{where} must be a non-empty string, got {shown(raw)}")
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
        raise ValueError(f"{where} must be true or false, got {shown(raw)}")
    return raw


def integer(raw: object, where: str, least: int, most: int) -> int:
    """An integer within [least, most]."""
    if isinstance(raw, bool) or not isinstance(raw, int) or not least <= raw <= most:
        raise ValueError(f"{where} must be an integer from {least} to {most}, got {shown(raw)}")
    return raw


def number(raw: object, where: str) -> float:
    """A finite number."""
    if not is_finite(raw):
        raise ValueError(f"{where} must be a finite number, got {shown(raw)}")
    return float(raw)


def share(raw: object, where: str) -> float:
    """A share of something, 0 to 1."""
    found = number(raw, where)
    if not 0.0 <= found <= 1.0:
        raise ValueError(f"{where} must be 0 to 1, got {shown(raw)}")
    return found


def is_finite(raw: object) -> TypeGuard[int | float]:
    """Whether it is a number that a float can hold; True and False are none."""
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return False
    return abs(raw) <= sys.float_info.max  # math.isfinite overflows on a large int


def choice(raw: object, where: str, choices: tuple[Any, ...]) -> Any:
    """One of the literal choices."""
    if not any(type(raw) is type(each) and raw == each for each in choices):
        raise ValueError(f"{where} must be one of {', '.join(map(str, choices))}, got {shown(raw)}")
    return raw


def member(kind: type[E], raw: object, where: str) -> E:
    """A member of an enum, given as itself or as its value."""
    if isinstance(raw, kind):
        return raw
    for each in kind:
        if type(raw) is type(each.value) and raw == each.value:
            return each
    values = ", ".join(str(each.value) for each in kind)
    raise ValueError(f"{where} must be one of {values}, got {shown(raw)}")


def settle_members(record: Any) -> None:
    """Make every field of a frozen dataclass that is typed as an enum a member of it, or None if it may be.

    For `__post_init__`: a value in place of its member would otherwise be compared with it, never be equal,
    and quietly mean something else.

    Raises:
        ValueError: neither a member nor a value of one; the message names the field.
    """
    for name, (kind, optional) in _enum_fields(type(record)).items():  # type: ignore[arg-type]
        raw = getattr(record, name)
        if not isinstance(raw, kind) and not (raw is None and optional):
            object.__setattr__(record, name, member(kind, raw, name))


@functools.cache
def _enum_fields(cls: type) -> dict[str, tuple[type[enum.Enum], bool]]:
    """Field -> its enum, and whether it may be None."""
    found = {}
    for name, hint in typing.get_type_hints(cls).items():
        parts = typing.get_args(hint) or (hint,)
        kinds = [part for part in parts if isinstance(part, type) and issubclass(part, enum.Enum)]
        if len(kinds) == 1 and set(parts) <= {kinds[0], type(None)}:
            found[name] = (kinds[0], type(None) in parts)
    return {field.name: found[field.name] for field in dataclasses.fields(cls) if field.name in found}


def sha256(raw: object, where: str) -> str:
    """A SHA-256 as 64 lower-case hexadecimal digits."""
    if not isinstance(raw, str) or len(raw) != 64 or not set(raw) <= set("0123456789abcdef"):
        raise ValueError(f"{where} must be 64 lower-case hexadecimal digits, got {shown(raw)}")
    return raw


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _finite(text: str) -> float:
    value = float(text)
    if not is_finite(value):
        raise ValueError(f"{shown(text)} is too large")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
