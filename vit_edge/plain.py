"""Between records and plain JSON or TOML values: one strict reader and one writer for all frozen dataclasses.

What a value must be is said by the type of its field, and what a type cannot say by a mark:

    size: Annotated[int, Within(0, 2**31)]

A type is a str (which is empty only where the field's default is), int (0 or more), float, bool, enum,
Literal, record, tuple or mapping from str of these, or one of them or None.
"""

import dataclasses
import enum
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, Union

from vit_edge import fields

R = TypeVar("R")

_MOST = 2**53  # of a count; every integer up to it is a float, too


class Mark(enum.Enum):
    """What the type of a field does not say about its value in a file."""

    SHA256 = "a text of 64 lower-case hexadecimal digits"
    INFINITE = "null stands for infinity, which JSON does not have"
    ABSENT = "the key may be absent, as older files lack it; the default is meant"
    OMITTED = "the key is absent where the value is the default"
    FLAT = "the keys of this record stand in the object itself"
    OPEN = "at any depth unknown keys are skipped, and defaults stand in for keys that are absent"


@dataclasses.dataclass(frozen=True)
class Within:
    """The least and the most that a number may be."""

    least: float
    most: float


_MISSING_MAY = {Mark.ABSENT, Mark.OMITTED}


@dataclasses.dataclass(frozen=True)
class _Field:
    name: str
    hint: Any
    """Without its marks."""
    marks: frozenset[Any]
    made: bool
    """Not read but made by the record itself."""
    default: Any
    """MISSING where there is none."""


def read(kind: type[R], raw: object, where: str, inside: str | None = None, *, further: bool = False) -> R:
    """The record that an object holds.

    Args:
        kind: a frozen dataclass.
        raw: plain JSON or TOML types.
        where: what the object is, for messages.
        inside: what the names of its keys are prefixed with in messages; by default `where` and a space.
        further: whether unknown keys are skipped, and defaults stand in for keys that are absent.

    Raises:
        ValueError: an unknown or missing key, or a value that its field cannot have; the message names it.
    """
    known = _fields(kind)
    raw = fields.mapping(raw, where)
    expected = {name for field in known for name in _keys(field)}
    optional = frozenset(name for field in known if _may_lack(field, further) for name in _keys(field))
    if further:
        raw = {key: value for key, value in raw.items() if key in expected}
    keys = fields.exact_keys(raw, frozenset(expected - optional), where, optional)
    prefix = f"{where} " if inside is None else inside
    values = {}
    for field in known:
        if Mark.FLAT in field.marks:
            mine = {key: keys[key] for key in _keys(field) if key in keys}
            values[field.name] = read(field.hint, mine, where, prefix, further=further)
        elif field.name in keys and not field.made:
            empty = field.default == "" and keys[field.name] == ""
            open_ = further or Mark.OPEN in field.marks
            values[field.name] = (
                "" if empty else _value(field.hint, field.marks, keys[field.name], prefix + field.name, open_)
            )
    return kind(**values)


def of(value: Any) -> Any:
    """The plain JSON types of a record, or of whatever its fields hold; what is infinite is null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _object(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: of(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [of(each) for each in value]
    return None if isinstance(value, float) and math.isinf(value) else value


def key_names(kind: Any) -> frozenset[str]:
    """Every key of the objects that a record and the records in it are written as."""
    found: set[str] = set()
    for field in _fields(kind):
        if Mark.FLAT not in field.marks:
            found.add(field.name)
        found |= {name for record in _records(field.hint) for name in key_names(record)}
    return frozenset(found)


def _object(record: Any) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for field in _fields(type(record)):
        value = getattr(record, field.name)
        if Mark.OMITTED in field.marks and value == field.default:
            continue
        if Mark.FLAT in field.marks:
            made |= _object(value)
        else:
            made[field.name] = of(value)
    return made


def _fields(kind: Any) -> tuple[_Field, ...]:
    return _read_fields(kind)


@functools.cache
def _read_fields(kind: type) -> tuple[_Field, ...]:
    hints = typing.get_type_hints(kind, include_extras=True)
    found = []
    for field in dataclasses.fields(kind):
        hint, marks = _unmarked(hints[field.name])
        default = field.default
        if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        found.append(_Field(field.name, hint, marks, not field.init, default))
    return tuple(found)


def _unmarked(hint: Any) -> tuple[Any, frozenset[Any]]:
    if typing.get_origin(hint) is Annotated:
        kind, *marks = typing.get_args(hint)
        return kind, frozenset(marks)
    return hint, frozenset()


def _keys(field: _Field) -> frozenset[str]:
    """The keys that a field takes in its own object."""
    if Mark.FLAT not in field.marks:
        return frozenset({field.name})
    return frozenset(name for each in _fields(field.hint) for name in _keys(each))


def _may_lack(field: _Field, further: bool) -> bool:
    """Whether a reader accepts an object without it."""
    if Mark.FLAT in field.marks:
        return True  # it sees to its own keys
    return bool(_MISSING_MAY & field.marks) or field.made or (further and _has_default(field))


def _has_default(field: _Field) -> bool:
    return field.default is not dataclasses.MISSING


def _value(hint: Any, marks: frozenset[Any], raw: object, where: str, further: bool) -> Any:
    """One value of a type."""
    if typing.get_origin(hint) is Annotated:
        inner, more = _unmarked(hint)
        return _value(inner, marks | more, raw, where, further)
    if typing.get_origin(hint) in (Union, types.UnionType):
        (inner,) = (each for each in typing.get_args(hint) if each is not type(None))
        return None if raw is None else _value(inner, marks, raw, where, further)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return read(hint, raw, where, further=further)
    several = {tuple: _tuple, Mapping: _mapping, Literal: _literal}.get(typing.get_origin(hint))
    return _single(hint, marks, raw, where) if several is None else several(hint, raw, where, further)


def _tuple(hint: Any, raw: object, where: str, further: bool) -> tuple[Any, ...]:
    kinds, items = typing.get_args(hint), fields.sequence(raw, where)
    if kinds[-1] is ...:
        return tuple(_value(kinds[0], frozenset(), item, f"each item of {where}", further) for item in items)
    if len(items) != len(kinds):
        raise ValueError(f"{where} must be a list of {len(kinds)} values, got {fields.shown(raw)}")
    pairs = zip(kinds, items, strict=True)
    return tuple(_value(kind, frozenset(), item, f"each item of {where}", further) for kind, item in pairs)


def _mapping(hint: Any, raw: object, where: str, further: bool) -> dict[str, Any]:
    _, kind = typing.get_args(hint)
    items = fields.mapping(raw, where).items()
    return {
        key: _value(kind, frozenset(), value, f"{where} {fields.shown(key)}", further) for key, value in items
    }


def _literal(hint: Any, raw: object, where: str, _: bool) -> Any:
    return fields.choice(raw, where, typing.get_args(hint))


def _single(hint: Any, marks: frozenset[Any], raw: object, where: str) -> Any:
    if Mark.SHA256 in marks:
        return fields.sha256(raw, where)
    if Mark.INFINITE in marks and raw is None:
        return math.inf
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return fields.member(hint, raw, where)
    bounds = next((mark for mark in marks if isinstance(mark, Within)), None)
    if hint is int:
        least, most = (0, _MOST) if bounds is None else (int(bounds.least), int(bounds.most))
        return fields.integer(raw, where, least, most)
    if hint is float:
        return _number(raw, where, bounds)
    return {str: fields.string, bool: fields.boolean}[hint](raw, where)


def _number(raw: object, where: str, bounds: Within | None) -> float:
    found = fields.number(raw, where)
    if bounds is not None and not bounds.least <= found <= bounds.most:
        raise ValueError(f"{where} must be from {bounds.least:g} to {bounds.most:g}, got {fields.shown(raw)}")
    return found


def _records(hint: Any) -> set[type]:
    """The records among the parts of a type."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return {hint}
    return {record for part in typing.get_args(hint) for record in _records(part)}
