"""Reads target descriptions: strict TOML, one file per device class, with single inheritance.

A target is a file NAME.toml. `inherits = "OTHER"` takes every key that the file leaves out from OTHER.toml,
within tables too, except `title`, `description`, `verification` and `predicted`, which speak of one target.
Targets that come with vit_edge inherit from each other; one's own file inherits from them.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from vit_edge import fields
from vit_edge.errors import TargetError
from vit_edge.files import read_file
from vit_edge.spec import TargetSpec
from vit_edge.targets.reader import KEYS, read_spec

BUILT_IN = Path(__file__).parent
SUFFIX = ".toml"

_OWN = frozenset({"title", "description", "verification", "predicted"})
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_MAX_BYTES = 8_192  # tomllib's time and memory grow with the square of the length of a dotted key


def list_targets(folder: Path = BUILT_IN) -> tuple[str, ...]:
    """The names of the targets in a folder, sorted.

    Raises:
        TargetError: the folder cannot be read.
    """
    try:
        return tuple(sorted(entry.stem for entry in folder.iterdir() if entry.suffix == SUFFIX))
    except OSError as error:
        raise TargetError(f"target folder {folder} cannot be read ({error.strerror})") from error


def load_target(name: str, folder: Path = BUILT_IN) -> TargetSpec:
    """Read one target, with what it inherits.

    Args:
        name: one of `list_targets(folder)`.
        folder: where the TOML files are; by default those that come with vit_edge.

    Raises:
        TargetError: the name is unknown, or a file is malformed; the message names the file and the key.
    """
    return _spec(name, folder / f"{name}{SUFFIX}", _resolve(name, folder, ()))


def find_target(name: str) -> TargetSpec:
    """A target by its name, or from one's own file: `boards/camera.toml` is the target `camera`.

    Raises:
        TargetError: as in `load_target`, or a file whose name is no name for a target, or is taken.
    """
    if not name.endswith(SUFFIX):
        return load_target(name)
    path = Path(name)
    if not _NAME.fullmatch(path.stem):
        raise TargetError(
            f"target {path}: {path.stem!r} is no name for a target; "
            "use lower-case letters, digits, '-', '_' and '.'"
        )
    if path.stem in list_targets():
        raise TargetError(
            f"target {path}: {path.stem!r} is the name of a target that exists; rename the file"
        )
    return _spec(path.stem, path, _inherited(_read(path), path, BUILT_IN, (path.stem,)))


def _spec(name: str, path: Path, table: dict[str, Any]) -> TargetSpec:
    try:
        return read_spec(name, table)
    except ValueError as error:
        raise TargetError(f"target {path}: {error}") from None


def _resolve(name: str, folder: Path, heirs: tuple[str, ...]) -> dict[str, Any]:
    """The table of a target laid over those it inherits from."""
    known = list_targets(folder)
    if name not in known:  # looked up, never joined to a path unchecked
        asker = f" (inherited by {heirs[-1]})" if heirs else ""
        raise TargetError(
            f"unknown target {fields.shown(name)}{asker}; known are {', '.join(known) or 'none'}"
        )
    if name in heirs:
        raise TargetError(f"target {name} inherits itself through {' -> '.join((*heirs, name))}")
    path = folder / f"{name}{SUFFIX}"
    return _inherited(_read(path), path, folder, (*heirs, name))


def _inherited(table: dict[str, Any], path: Path, folder: Path, heirs: tuple[str, ...]) -> dict[str, Any]:
    """A table with what it leaves out taken from the target that it names."""
    parent = table.pop("inherits", None)
    if parent is None:
        return table
    if not isinstance(parent, str):
        raise TargetError(f"target {path}: inherits must be a name, got {fields.shown(parent)}")
    inherited = _resolve(parent, folder, heirs)
    return _laid_over({key: value for key, value in inherited.items() if key not in _OWN}, table)


def _laid_over(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`own`, with the keys that it leaves out from `base`; tables within, too."""
    merged = dict(base)
    for key, value in own.items():
        below = merged.get(key)
        merged[key] = (
            _laid_over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
        )
    return merged


def _read(path: Path) -> dict[str, Any]:
    try:
        data = read_file(path, _MAX_BYTES)
    except OSError as error:
        raise TargetError(f"target {path} cannot be read ({error.strerror})") from error
    try:
        table = tomllib.loads(data.decode("utf-8"))
        if fields.depth(table) > fields.MAX_DEPTH:
            raise ValueError("it is nested too deeply")
    except (ValueError, RecursionError) as error:
        raise TargetError(f"target {path} is not valid TOML ({error})") from None
    unknown = sorted(set(table) - KEYS - {"inherits"})
    if unknown:
        raise TargetError(
            f"target {path} has the unknown key {fields.shown(unknown[0])}; "
            f"known are {', '.join(sorted(KEYS))}"
        )
    return table
