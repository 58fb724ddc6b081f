"""Reads target descriptions: strict TOML, one file per device class, with single inheritance.

A target is a file NAME.toml. `inherits = "OTHER"` takes every key that the file leaves out from OTHER.toml in
the same folder, except `title`, `description` and `verified`, which speak of one target only.
"""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

from vit_edge import fields
from vit_edge.errors import TargetError
from vit_edge.spec import ActivationType, Batch, InputForm, TargetSpec, session_options

BUILT_IN = Path(__file__).parent

_OWN = frozenset({"title", "description", "verified"})
_KEYS = frozenset(field.name for field in dataclasses.fields(TargetSpec)) - {"name"}
_MAX_BYTES = 65_536


def list_targets(folder: Path = BUILT_IN) -> tuple[str, ...]:
    """The names of the targets in a folder, sorted.

    Raises:
        TargetError: the folder cannot be read.
    """
    try:
        return tuple(sorted(entry.stem for entry in folder.iterdir() if entry.suffix == ".toml"))
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
    table = _resolve(name, folder, ())
    try:
        return _to_spec(name, table)
    except ValueError as error:
        raise TargetError(f"target {folder / name}.toml: {error}") from None


def _resolve(name: str, folder: Path, heirs: tuple[str, ...]) -> dict[str, Any]:
    """The table of a target laid over those it inherits from."""
    known = list_targets(folder)
    if name not in known:  # looked up, never joined to a path unchecked
        asker = f" (inherited by {heirs[-1]})" if heirs else ""
        raise TargetError(f"unknown target {name!r}{asker}; known are {', '.join(known) or 'none'}")
    if name in heirs:
        raise TargetError(f"target {name} inherits itself through {' -> '.join((*heirs, name))}")
    table = _read(folder / f"{name}.toml")
    parent = table.pop("inherits", None)
    if parent is None:
        return table
    if not isinstance(parent, str):
        raise TargetError(f"target {folder / name}.toml: inherits must be a name, got {parent!r}")
    inherited = _resolve(parent, folder, (*heirs, name))
    return {key: value for key, value in inherited.items() if key not in _OWN} | table


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise TargetError(f"target {path} cannot be read ({error.strerror})") from error
    if len(data) > _MAX_BYTES:
        raise TargetError(f"target {path} is larger than {_MAX_BYTES} bytes")
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise TargetError(f"target {path} is not valid TOML ({error})") from None
    unknown = sorted(set(table) - _KEYS - {"inherits"})
    if unknown:
        raise TargetError(
            f"target {path} has the unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}"
        )
    return table


def _to_spec(name: str, table: dict[str, Any]) -> TargetSpec:
    raw = fields.exact_keys(table, _KEYS, "the target")
    return TargetSpec(
        name=name,
        title=fields.string(raw["title"], "title"),
        description=fields.string(raw["description"], "description"),
        activation_type=ActivationType(
            fields.choice(raw["activation_type"], "activation_type", ("uint8", "int8"))
        ),
        weight_type=fields.choice(raw["weight_type"], "weight_type", ("int8",)),
        weight_bits=fields.choice(raw["weight_bits"], "weight_bits", (4, 8)),
        per_channel=fields.boolean(raw["per_channel"], "per_channel"),
        integer_attention=fields.boolean(raw["integer_attention"], "integer_attention"),
        float_type=fields.choice(raw["float_type"], "float_type", ("float32", "float16")),
        batch=Batch(fields.choice(raw["batch"], "batch", ("dynamic", "fixed"))),
        input_form=InputForm(fields.choice(raw["input_form"], "input_form", ("pixel_values", "pixels"))),
        session_options=session_options(raw["session_options"]),
        wheel=fields.string(raw["wheel"], "wheel"),
        verified=fields.strings(raw["verified"], "verified"),
    )
