"""What a job is, kept beside its results: who goes on with a file must be about the same."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Self

from vit_edge import fields
from vit_edge.errors import UsageError
from vit_edge.files import read_file, write_file
from vit_edge.runtime.job.names import Shard
from vit_edge.runtime.job.rows import Layout, Task

FORMAT_VERSION = 1
SUFFIX = ".job"  # behind the name of the results

_MAX_BYTES = 2**20
# What shares of one job differ in.
_OWN = frozenset({"shard", "base", "rows"})


@dataclasses.dataclass(frozen=True)
class Job:
    """Everything that a row depends on."""

    command: str  # the value of a Task
    model: str  # name of the file
    model_sha256: str
    settings: tuple[str, ...]  # those that answers depend on, as words
    columns: int  # answers in a row of CSV
    base: str | None  # the folder that names of images begin in; None where they need none
    shard: Shard
    rows: int | None = None  # in all, once every image has its row

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        raw = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            "format_version": FORMAT_VERSION,
            **raw,
            "settings": list(self.settings),
            "shard": str(self.shard),
        }

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read what `to_json` made; ValueError names a key that is wrong."""
        names = frozenset(field.name for field in dataclasses.fields(cls))
        version = fields.mapping(raw, "the record").get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise ValueError(f"format version {version} is of a newer vit-edge; use that one")
        keys = fields.exact_keys(raw, names | {"format_version"}, "the record")
        return cls(
            command=fields.choice(keys["command"], "command", tuple(task.value for task in Task)),
            model=fields.string(keys["model"], "model"),
            model_sha256=fields.sha256(keys["model_sha256"], "model_sha256"),
            settings=fields.strings(keys["settings"], "settings"),
            columns=fields.integer(keys["columns"], "columns", 0, 2**31),
            base=None if keys["base"] is None else fields.string(keys["base"], "base"),
            shard=Shard.of(fields.string(keys["shard"], "shard")),
            rows=None if keys["rows"] is None else fields.integer(keys["rows"], "rows", 0, 2**53),
        )

    @property
    def layout(self) -> Layout:
        """How its answers lie in a row."""
        return Layout(Task(self.command), self.columns)

    def same_answers(self, other: "Job") -> str | None:
        """The first thing that makes answers of two jobs differ, None where there is none."""
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if field.name not in _OWN and mine != theirs:
                return f"{field.name.replace('_', ' ')} {_told(theirs)} there, {_told(mine)} here"
        return None


def record_of(results: Path) -> Path:
    """Where the record of a file of results lies."""
    return results.with_name(results.name + SUFFIX)


def read_job(results: Path) -> Job | None:
    """The record of a file of results; None where there is none.

    Raises:
        UsageError: it is damaged.
    """
    path = record_of(results)
    try:
        return Job.from_json(fields.parse_json(read_file(path, _MAX_BYTES), "the record"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UsageError(
            f"{path}: {error}; move it and {results.name} away, or choose another output"
        ) from None


def write_job(results: Path, job: Job) -> None:
    """Keep the record.

    Raises:
        UsageError: it cannot be written.
    """
    path = record_of(results)
    try:
        write_file(path, json.dumps(job.to_json(), indent=1).encode() + b"\n")
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror})") from error


def check_same(results: Path, earlier: Job, job: Job) -> None:
    """Refuse to go on with results of another job.

    Raises:
        UsageError: with what differs.
    """
    reason = job.same_answers(earlier)
    if reason is None and earlier.shard != job.shard:
        reason = f"--shard {earlier.shard} there, {job.shard} here"
    if reason is None and job.base != earlier.base:
        reason = (
            f"its images were named from {earlier.base or '/'}, these are from {job.base or '/'}; start there"
        )
    if reason is not None:
        raise UsageError(f"{results} holds the results of another job ({reason}): choose another output")


def _told(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return str(value)
