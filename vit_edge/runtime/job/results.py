"""The files that a job fills: only whole rows, one process at a time, resumed where an earlier one ended."""

import contextlib
import dataclasses
import io
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.lib import format as npy

from vit_edge.errors import UsageError
from vit_edge.runtime.job.record import Job, check_same, read_job, record_of, write_job
from vit_edge.runtime.job.rows import Row, RowForm, encode, header, read_rows

try:
    import fcntl
except ImportError:  # no such locks on this system
    fcntl = None  # type: ignore[assignment]

IDS_SUFFIX = ".jsonl"  # behind the name of an array: which image its rows are of


class Results(Protocol):
    """Where rows go."""

    @property
    def done(self) -> set[str]:
        """Images that have their row."""
        ...

    @property
    def failed(self) -> int:
        """How many of those rows are errors."""
        ...

    def append(self, row: Row) -> None:
        """Write a row, whole or not at all."""
        ...

    def close(self, complete: bool) -> None:
        """Have everything on the disk; `complete`: every image has its row."""
        ...


class RowFile:
    """Rows of text.

    Args:
        path: to make, or to go on with.
        form: of the rows.
        job: that they are of.

    Raises:
        UsageError: the file is of another job, damaged, in use, or cannot be written.
    """

    def __init__(self, path: Path, form: RowForm, job: Job) -> None:
        self._path, self._form, self._job, self._layout = path, form, job, job.layout
        earlier = read_job(path)
        if earlier is None and path.exists() and path.stat().st_size:
            raise UsageError(
                f"{path} exists, and {record_of(path).name} does not say what it is of; choose another output"
            )
        if earlier is not None:
            check_same(path, earlier, job)
        with self._written():
            self._file = open_both(path)
        try:
            _lock(self._file, path)
            write_job(path, job)  # unfinished, whatever an earlier run has said
            self._done: set[str] = set()
            self._failed = 0
            self._end = self._read()
        except BaseException:
            self._file.close()
            raise

    def _read(self) -> int:
        """Take in what is there and cut off what is not whole; returns the end."""
        end = 0
        with self._path.open("rb") as file:
            for row in read_rows(file, self._form, self._layout, str(self._path)):
                if row.image in self._done:
                    raise UsageError(f"{self._path} has two rows of {row.image}; move it away")
                self._done.add(row.image)
                self._failed += row.failed
                end = row.end
        self._end = end
        with self._written():
            self._file.truncate(end)
            self._file.seek(end)
        if not end:
            self._write(header(self._form, self._layout))
        return self._end

    @property
    def done(self) -> set[str]:
        """Images that have their row."""
        return self._done

    @property
    def failed(self) -> int:
        """How many of those rows are errors."""
        return self._failed

    @property
    def good(self) -> int:
        """Rows that are no errors."""
        return len(self._done) - self._failed

    def append(self, row: Row) -> None:
        """Write a row, whole or not at all.

        Raises:
            UsageError: the file cannot be written.
        """
        self._write(encode(row, self._form, self._layout))
        self._done.add(row.image)
        self._failed += row.error is not None

    def close(self, complete: bool) -> None:
        """Have everything on the disk, and say in the record whether it is complete."""
        with contextlib.closing(self._file), self._written():
            os.fsync(self._file.fileno())
        if complete:
            write_job(self._path, dataclasses.replace(self._job, rows=len(self.done)))

    def _write(self, data: bytes) -> None:
        try:
            with self._written():
                write_all(self._file, data)
        except UsageError:
            with contextlib.suppress(OSError):  # a full disk takes the beginning of a row
                self._file.truncate(self._end)
            raise
        self._end += len(data)

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        with writing(self._path):
            yield


class ArrayFile:
    """Vectors in a .npy file that numpy can read at any moment, and the names of their images beside it.

    Row k of the array is of the k-th line of `NAME.npy.jsonl` that has no error. A vector is written before
    its line, and the line before the header counts it, so whatever a kill leaves can be put right.

    Args:
        path: of the array.
        shape: of one image's numbers.
        job: that it is of.

    Raises:
        UsageError: as for `RowFile`, or the array holds fewer vectors than there are lines.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], job: Job) -> None:
        self._path, self._shape = path, shape
        self._bytes = 4 * int(np.prod(shape))
        ids = path.with_name(path.name + IDS_SUFFIX)
        if path.exists() and not ids.exists():
            raise UsageError(
                f"{path} exists, and {ids.name} does not say what its rows are; choose another output"
            )
        self._ids = RowFile(ids, RowForm.JSONL, job)
        try:
            with writing(path):
                self._file = open_both(path)
        except BaseException:
            self._ids.close(complete=False)
            raise
        try:
            self._recover()
        except BaseException:
            self._file.close()
            self._ids.close(complete=False)
            raise

    @property
    def done(self) -> set[str]:
        """Images that have their row."""
        return self._ids.done

    @property
    def failed(self) -> int:
        """How many of those rows are errors."""
        return self._ids.failed

    def _recover(self) -> None:
        count = self._ids.good
        begin = len(self._header(0))
        size = os.fstat(self._file.fileno()).st_size
        if count:
            if self._file.read(begin)[:-1].split(b"shape")[0] != self._header(count).split(b"shape")[0]:
                raise UsageError(f"{self._path} is no array of this job; move it and its .jsonl away")
            if size < begin + count * self._bytes:
                raise UsageError(
                    f"{self._path} holds fewer rows than {self._path.name}{IDS_SUFFIX} names; move both away"
                )
        with writing(self._path):
            self._file.truncate(begin + count * self._bytes)
            self._put_header()
            self._file.seek(begin + count * self._bytes)

    def append(self, row: Row) -> None:
        """Write a row.

        Raises:
            UsageError: a file cannot be written.
        """
        if row.vector is not None:
            end = self._file.tell()
            try:
                with writing(self._path):
                    write_all(self._file, np.ascontiguousarray(row.vector, "<f4").tobytes())
                self._ids.append(row)
            except UsageError:
                with contextlib.suppress(OSError):
                    self._file.truncate(end)
                raise
            with writing(self._path):
                self._put_header()
        else:
            self._ids.append(row)

    def close(self, complete: bool) -> None:
        """Have everything on the disk."""
        with contextlib.closing(self._file), writing(self._path):
            os.fsync(self._file.fileno())
        self._ids.close(complete)

    def _put_header(self) -> None:
        place = self._file.tell()
        self._file.seek(0)
        write_all(self._file, self._header(self._ids.good))
        self._file.seek(max(place, self._file.tell()))

    def _header(self, count: int) -> bytes:
        """Of one length whatever the count: numpy leaves room for the first axis to grow."""
        stream = io.BytesIO()
        content = {"descr": "<f4", "fortran_order": False, "shape": (count, *self._shape)}
        npy.write_array_header_1_0(stream, content)
        return stream.getvalue()


def open_both(path: Path) -> FileIO:
    """Open a file for reading and writing, as it is or new and empty; unbuffered."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    return FileIO(descriptor, "r+b")


def write_all(file: BinaryIO | FileIO, data: bytes) -> None:
    """Write to an unbuffered file, which may take less at a time than it is given."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) or 0 :]


@contextlib.contextmanager
def writing(path: Path, left: str = "the rows that are there are whole") -> Iterator[None]:
    """A failure to write becomes one line.

    Args:
        path: what is written.
        left: what is there then.

    Raises:
        UsageError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror}); {left}: mend it and run the same command again"
        ) from error


def _lock(file: FileIO, path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UsageError(
            f"{path} is being written by another process; wait for it, or choose another output"
        ) from None
