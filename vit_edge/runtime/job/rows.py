"""One row per image, as JSON lines or CSV: how it is written, and how an earlier file is read again."""

import csv
import enum
import functools
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from vit_edge.errors import UsageError
from vit_edge.runtime.predict.classifier import Prediction
from vit_edge.runtime.predict.detection import Detection
from vit_edge.runtime.predict.segmentation import Share

_LONGEST = 64 * 2**20  # bytes of a row: 20,000 classes take two


class Task(enum.Enum):
    """What a job does; the value is the command."""

    CLASSIFY = "classify"
    EMBED = "embed"
    DETECT = "detect"
    SEGMENT = "segment"


@dataclass(frozen=True)
class Layout:
    """How the answers of a job lie in a row."""

    task: Task
    columns: int
    """Of CSV: how many answers of a classifier have columns of their own."""

    @functools.cached_property
    def cells(self) -> tuple[str, ...]:
        """What the columns of CSV are called, behind image and error."""
        if self.task in CELLS:
            return CELLS[self.task]
        places = range(1, self.columns + 1)
        return tuple(f"{name}_{place}" for place in places for name in ("label", "score", "index"))


# Of tasks whose answers are as many as there are: what is in a list goes into one cell, as JSON.
CELLS = {Task.DETECT: ("objects",), Task.SEGMENT: ("mask", "height", "width", "seen", "classes")}


@dataclass(frozen=True, slots=True)
class Painted:
    """What a segmenter found."""

    mask: str
    """The file of the mask, from the folder of the results."""
    size: tuple[int, int]
    """Pixels (height, width) of the image."""
    seen: float
    """Share of it that the model saw."""
    classes: tuple[Share, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """What a job found for one image."""

    image: str
    error: str | None  # why there is nothing else
    predictions: tuple[Prediction, ...] = ()
    vector: npt.NDArray[np.float32] | None = None  # of an embedding: its numbers, in any shape
    objects: tuple[Detection, ...] = ()
    painted: Painted | None = None


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


def header(form: RowForm, layout: Layout) -> bytes:
    """What a file begins with."""
    return b"" if form is RowForm.JSONL else _csv_line(["image", "error", *layout.cells])


def encode(row: Row, form: RowForm, layout: Layout) -> bytes:
    """A row with its line end."""
    if form is RowForm.CSV:
        cells = _cells(row, layout)
        return _csv_line([row.image, row.error or "", *cells, *[""] * (len(layout.cells) - len(cells))])
    content: dict[str, object] = {"image": row.image, "error": row.error}
    return json.dumps(content | _told(row, layout)).encode() + b"\n"


def _told(row: Row, layout: Layout) -> dict[str, object]:
    """What stands behind image and error in a line of JSON."""
    if layout.task is Task.DETECT:
        return {"objects": [_object(each) for each in row.objects]}
    if layout.task is Task.SEGMENT:
        found = row.painted
        if found is None:
            return {"mask": None, "height": None, "width": None, "seen": None, "classes": []}
        height, width = found.size
        classes = [{"label": each.label, "index": each.index, "share": each.share} for each in found.classes]
        return {
            "mask": found.mask,
            "height": height,
            "width": width,
            "seen": found.seen,
            "classes": classes,
        }
    told = [{"label": each.label, "score": each.score, "index": each.index} for each in row.predictions]
    return {"predictions": told} if layout.columns or told else {}  # an embedding's numbers are elsewhere


def _object(found: Detection) -> dict[str, object]:
    return {"label": found.label, "score": found.score, "index": found.index, "box": list(found.box)}


def _cells(row: Row, layout: Layout) -> list[str]:
    """The same as cells; none where there is an error."""
    if layout.task in CELLS:
        told = {} if row.error is not None else _told(row, layout)
        values = (told[name] for name in layout.cells if name in told)
        return [json.dumps(value) if isinstance(value, list) else str(value) for value in values]
    return [cell for each in row.predictions for cell in (each.label, repr(each.score), str(each.index))]


def read_rows(file: BinaryIO, form: RowForm, layout: Layout, name: str) -> Iterator[Read]:
    """The rows of a file, without a last one that a killed process did not finish.

    Raises:
        UsageError: a row that no job wrote; the message names its line.
    """
    first = header(form, layout)
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
            image, failed = _content(raw, form, layout)
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


def _content(raw: bytes, form: RowForm, layout: Layout) -> tuple[str, bool]:
    if form is RowForm.CSV:
        text = raw.decode("utf-8", "surrogateescape")
        [cells] = csv.reader(io.StringIO(text, newline=""), strict=True)
        if len(cells) != 2 + len(layout.cells):
            raise ValueError(f"it has {len(cells)} cells, not {2 + len(layout.cells)}")
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
