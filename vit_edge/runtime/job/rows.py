"""One row per image, as JSON lines or CSV: how it is written, and how an earlier file is read again."""

import csv
import enum
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from vit_edge.errors import UsageError
from vit_edge.runtime.predict.classifier import Prediction

_LONGEST = 64 * 2**20  # bytes of a row: 20,000 classes take two


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """What a job found for one image."""

    image: str
    error: str | None  # why there is nothing else
    predictions: tuple[Prediction, ...] = ()
    vector: npt.NDArray[np.float32] | None = None  # of an embedding: its numbers, in any shape


class RowForm(enum.Enum):
    """A form of the file; the value is what its name ends in."""

    JSONL = ".jsonl"  # {"image", "error", "predictions": [{"label", "score", "index"}]} on each line
    CSV = ".csv"  # image, error, then label_1, score_1, index_1, label_2 and so on


class Read(NamedTuple):
    """A row as it stands in a file."""

    image: str
    failed: bool
    raw: bytes  # with its line end
    end: int  # of the file so far, in bytes


def header(form: RowForm, columns: int) -> bytes:
    """What a file begins with."""
    if form is RowForm.JSONL:
        return b""
    numbered = [f"{name}_{place}" for place in range(1, columns + 1) for name in ("label", "score", "index")]
    return _csv_line(["image", "error", *numbered])


def encode(row: Row, form: RowForm, columns: int) -> bytes:
    """A row with its line end."""
    if form is RowForm.CSV:
        cells = [cell for each in row.predictions for cell in (each.label, repr(each.score), str(each.index))]
        blank = [""] * (3 * columns - len(cells))
        return _csv_line([row.image, row.error or "", *cells, *blank])
    told = [{"label": each.label, "score": each.score, "index": each.index} for each in row.predictions]
    content: dict[str, object] = {"image": row.image, "error": row.error}
    if columns or told:  # an embedding's numbers are elsewhere
        content["predictions"] = told
    return json.dumps(content).encode() + b"\n"


def read_rows(file: BinaryIO, form: RowForm, columns: int, name: str) -> Iterator[Read]:
    """The rows of a file, without a last one that a killed process did not finish.

    Raises:
        UsageError: a row that no job wrote; the message names its line.
    """
    first = header(form, columns)
    begun = file.read(len(first))
    if begun != first:
        if first.startswith(begun):  # killed while it wrote its first line
            return
        raise UsageError(f"{name} does not begin as this job would have it; move it away")
    end, number = len(first), 1 if first else 0
    for raw in _records(file, form, name):
        number += 1
        end += len(raw)
        try:
            image, failed = _content(raw, form, columns)
        except (ValueError, csv.Error) as error:
            raise UsageError(
                f"{name}: row {number} is damaged ({error}); move the file away, or cut it before that row"
            ) from None
        yield Read(image, failed, raw, end)


def _records(file: BinaryIO, form: RowForm, name: str) -> Iterator[bytes]:
    """Whole records: of CSV, a line end between quotes does not end one."""
    record = b""
    while line := file.readline(_LONGEST):
        record += line
        if len(record) >= _LONGEST:
            raise UsageError(
                f"{name} has a row of more than {_LONGEST} bytes, so it is damaged; move it away"
            )
        if line.endswith(b"\n") and (form is RowForm.JSONL or record.count(b'"') % 2 == 0):
            yield record
            record = b""


def _content(raw: bytes, form: RowForm, columns: int) -> tuple[str, bool]:
    if form is RowForm.CSV:
        text = raw.decode("utf-8", "surrogateescape")
        [cells] = csv.reader(io.StringIO(text, newline=""), strict=True)
        if len(cells) != 2 + 3 * columns:
            raise ValueError(f"it has {len(cells)} cells, not {2 + 3 * columns}")
        return cells[0], bool(cells[1])
    try:
        content = json.loads(raw)
    except ValueError:
        raise ValueError("it is no JSON") from None
    if not isinstance(content, dict) or not isinstance(content.get("image"), str) or "error" not in content:
        raise ValueError("it is no object with image and error")
    return content["image"], content["error"] is not None


def _csv_line(cells: list[str]) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerow(cells)
    return stream.getvalue().encode("utf-8", "surrogateescape")
