"""Writes docs/manifest-keys.md: every key of a bundle's manifest, from the records that read and write it.

python -m tools.manifest_page
"""

import ast
import dataclasses
import enum
import inspect
import itertools
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Union

from vit_edge.manifest import Manifest
from vit_edge.plain import Mark

PAGE = Path(__file__).resolve().parents[1] / "docs" / "manifest-keys.md"
HEAD = """# Every key of the manifest

Written by `python -m tools.manifest_page` from the records that read and write `vit_edge.json`; the
[bundle format](bundle-format.md) says what a writer and a reader must do. A key marked *may be absent* is not
in older files; one marked *or absent* is left out where there is nothing to say.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(_section(record) for record in records(Manifest))])


def records(kind: type, seen: set[type] | None = None) -> Iterator[type]:
    """A record and those in it, each once, in the order of the fields."""
    known = set() if seen is None else seen
    if kind in known:
        return
    known.add(kind)
    yield kind
    for hint in typing.get_type_hints(kind).values():
        for inner in _records_in(hint):
            yield from records(inner, known)


def _records_in(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        yield hint
    for part in typing.get_args(hint):
        yield from _records_in(part)


def _section(record: type) -> str:
    said, hints = _sentences(record), typing.get_type_hints(record, include_extras=True)
    first = (inspect.getdoc(record) or "").split("\n\n")[0].replace("\n", " ")
    lines = [f"## {_title(record)}", first, "", "| key | value | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(record):
        hint = hints[field.name]
        marks = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
        if Mark.FLAT in marks:
            (inner,) = _records_in(hint)
            lines.append(f"| | all keys of a [{_title(inner)}](#{_anchor(inner)}) | |")
            continue
        absent = ", may be absent" if Mark.ABSENT in marks else ", or absent" if Mark.OMITTED in marks else ""
        lines.append(f"| `{field.name}` | {_words(hint)}{absent} | {said.get(field.name, '')} |")
    return "\n".join([*lines, ""])


def _title(record: type) -> str:
    """SourceRecord -> source."""
    name = record.__name__.removesuffix("Record")
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()


def _anchor(record: type) -> str:
    return _title(record).replace(" ", "-")


def _sentences(record: type) -> dict[str, str]:
    """The docstring below each field."""
    (body,) = (
        node.body for node in ast.parse(inspect.getsource(record)).body if isinstance(node, ast.ClassDef)
    )
    found = {}
    for node, below in itertools.pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = below.value if isinstance(below, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                found[node.target.id] = re.sub(r"\bNone\b", "null", " ".join(text.value.split()))
    return found


def _words(hint: Any) -> str:
    """What a value is, in the words of JSON."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _words(parts[0]) + (" or null" if Mark.INFINITE in parts[1:] else "")
    if origin in (Union, types.UnionType):
        return f"{' or '.join(_words(part) for part in parts if part is not type(None))} or null"
    if origin is tuple:
        if parts[-1] is ...:
            return f"list, each {_words(parts[0])}"
        return f"list of {len(parts)}, each {_words(parts[0])}"
    if origin is Mapping:
        return f"object, each value {_words(parts[1])}"
    if issubclass(hint, enum.Enum):
        return "one of " + ", ".join(f"`{each.value}`" for each in hint)
    for record in _records_in(hint):
        return f"[{_title(record)}](#{_anchor(record)})"
    return {str: "text", int: "integer", float: "number", bool: "true or false"}[hint]


if __name__ == "__main__":
    PAGE.write_text(page())
