"""Rows as a Parquet file, made in one go from the lines of JSON that a job has written.

A Parquet file can be read once its end is written, and cannot be gone on with, so a job that may be killed at
any moment writes lines.
"""

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vit_edge.errors import MissingExtraError, UsageError
from vit_edge.files import draft_beside
from vit_edge.runtime.job.record import Job
from vit_edge.runtime.job.results import IDS_SUFFIX, RowFile, writing
from vit_edge.runtime.job.rows import Row, RowForm, Task

PARQUET = ".parquet"
EXTRA = "parquet"

_GROUP = 20_000  # rows that are in memory together


def lines_of(path: Path) -> Path:
    """Where the lines lie that a Parquet file is made from; any other file of results is its own."""
    return path.with_name(path.name + IDS_SUFFIX) if path.suffix == PARQUET else path


def check_pyarrow() -> None:
    """Refuse before any work is done.

    Raises:
        MissingExtraError: the library is not installed.
    """
    _pyarrow()


class ParquetFile:
    """Lines of JSON in `NAME.parquet.jsonl`, and `NAME.parquet` from them when every image has its row.

    Args:
        path: of the Parquet file; complete or absent.
        job: that it is of.

    Raises:
        UsageError: as for `RowFile`, or there is a file at `path` and nothing says what it is of.
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, path: Path, job: Job) -> None:
        check_pyarrow()
        self._path, self._lines, self._task = path, lines_of(path), job.layout.task
        if path.exists() and not self._lines.exists():
            raise UsageError(
                f"{path} exists, and no {self._lines.name} says what its rows are; choose another output"
            )
        self._rows = RowFile(self._lines, RowForm.JSONL, job)

    @property
    def done(self) -> set[str]:
        """Images that have their row."""
        return self._rows.done

    @property
    def failed(self) -> int:
        """How many of those rows are errors."""
        return self._rows.failed

    def append(self, row: Row) -> None:
        """Write a row, whole or not at all.

        Raises:
            UsageError: the lines cannot be written.
        """
        self._rows.append(row)

    def close(self, complete: bool) -> None:
        """Have the lines on the disk; with every image there, write the Parquet file."""
        self._rows.close(complete)
        if complete:
            convert(self._lines, self._path, self._task)


def convert(lines: Path, path: Path, task: Task) -> None:
    """Write a Parquet file from the lines of a finished job, complete or not at all.

    Its columns are image (string), error (string, null where there is none) and what a line holds behind
    them, see `_columns`. A file name that is no UTF-8 is written with escapes.

    Raises:
        UsageError: a file cannot be read or written.
        MissingExtraError: pyarrow is not installed.
    """
    arrow, parquet = _pyarrow()
    schema = arrow.schema([("image", arrow.string()), ("error", arrow.string()), *_columns(arrow, task)])
    with writing(path, f"every row is in {lines_of(path).name}"), draft_beside(path) as draft:
        with contextlib.closing(parquet.ParquetWriter(draft, schema, compression="zstd")) as writer:
            for rows in _grouped(lines):
                writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
        draft.replace(path)


def _columns(arrow: Any, task: Task) -> list[tuple[str, Any]]:
    """What an answer is made of; numbers in double precision."""
    label, index = ("label", arrow.string()), ("index", arrow.int64())
    scored = [label, ("score", arrow.float64()), index]
    if task is Task.DETECT:
        box = ("box", arrow.list_(arrow.float64(), 4))
        return [("objects", arrow.list_(arrow.struct([*scored, box])))]
    if task is Task.SEGMENT:
        shares = arrow.struct([label, index, ("share", arrow.float64())])
        sides = [("height", arrow.int64()), ("width", arrow.int64())]
        return [
            ("mask", arrow.string()),
            *sides,
            ("seen", arrow.float64()),
            ("classes", arrow.list_(shares)),
        ]
    return [("predictions", arrow.list_(arrow.struct(scored)))]


def _grouped(lines: Path) -> Iterator[list[dict[str, Any]]]:
    with lines.open("rb") as file:
        while rows := [_row(line) for line in itertools.islice(file, _GROUP)]:
            yield rows


def _row(line: bytes) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(line)
    raw["image"] = _text(raw["image"])
    if raw["error"] is not None:
        raw["error"] = _text(raw["error"])
    return raw


def _text(name: str) -> str:
    """Without the surrogates that stand for bytes of a file name that are no UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", EXTRA) from error
    return pyarrow, parquet
