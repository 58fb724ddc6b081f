"""What is printed: tables and results on standard output, progress and errors on standard error."""

import contextlib
import errno
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vit_edge.errors import ImageError, UsageError
from vit_edge.files import scratch_folder, write_file
from vit_edge.progress import Progress

Answer = TypeVar("Answer")

STANDARD_OUTPUT = Path("-")  # as a file that an option names


def one_line(text: str) -> str:
    """The text without line breaks and control characters, which a file name or label may hold."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, the first row being the heading."""
    cleaned = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cleaned) for column in range(len(cleaned[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cleaned
    ]
    return "\n".join(lines)


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values, one pair per line."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {one_line(value)}" for name, value in rows)


def check_file(option: str, path: Path | None) -> None:
    """Refuse a file that an option names and that cannot be written, before the work.

    Raises:
        UsageError: a folder, or a file in a folder that does not exist.
    """
    if path is None or path == STANDARD_OUTPUT:
        return
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{option} {path} cannot be written: name a file in a folder that exists")


@contextlib.contextmanager
def text_aside(outputs: Sequence[Path | None]) -> Iterator[None]:
    """Text goes to standard error where a file goes to standard output.

    Args:
        outputs: what the options name.

    Raises:
        UsageError: two files would go to standard output.
    """
    count = outputs.count(STANDARD_OUTPUT)
    if count > 1:
        raise UsageError("only one file can go to standard output; name another for the others")
    if not count:
        yield
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def file_for(path: Path) -> Iterator[Path]:
    """Where to write a file that an option names; what is to go to standard output goes there at the end."""
    if path != STANDARD_OUTPUT:
        yield path
        return
    with scratch_folder() as folder:
        written = folder / "standard output"
        yield written
        if written.exists():
            _write_to_standard_output(written.read_bytes())


def write_text(option: str, path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(option, path, text.encode())


def write_bytes(option: str, path: Path, data: bytes) -> None:
    """Write the file that an option names, complete or not at all; `-` is standard output.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        if path == STANDARD_OUTPUT:
            _write_to_standard_output(data)
        else:
            write_file(path, data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(f"{option} {path} cannot be written ({error.strerror})") from error


def _write_to_standard_output(data: bytes) -> None:
    """To the stream that the process began with, wherever text goes meanwhile."""
    stream = sys.__stdout__
    if stream is None:
        raise OSError(errno.EBADF, "standard output is closed")
    stream.flush()
    stream.buffer.write(data)
    stream.buffer.flush()


def check_json(path: Path | None) -> None:
    """Refuse a --json file that cannot be written, before the work."""
    check_file("--json", path)


def write_json(path: Path | None, content: Any) -> None:
    """Write a JSON file, complete or not at all; nothing where no path was given."""
    if path is not None:
        write_text("--json", path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def tell_notes(notes: Sequence[str]) -> None:
    """What was assumed, or is not as one might think, a line each; never left out."""
    for note in notes:
        print(f"note: {one_line(note)}")


def tell_instead(of: str | None) -> None:
    """That a file of a bundle runs in place of the one that is meant; beside what is printed as data."""
    if of is not None:
        print(f"note: {one_line(of)}", file=sys.stderr)


@contextlib.contextmanager
def progress(quiet: bool = False) -> Iterator[Progress]:
    """A bar on a terminal, a line for each step elsewhere; nothing where it is to be quiet."""
    if quiet:
        yield lambda *_: None
        return
    bar = _bar() if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else None
    if bar is None:
        yield _lines()
        return
    try:
        yield bar.tell
    finally:
        bar.close()


class _Bar:
    """One tqdm bar after another, a new one for each step."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self._what = ""
        self._bar: Any = None

    def tell(self, what: str, done: int, total: int) -> None:
        if what != self._what:
            self.close()
            self._what, self._bar = what, self._make(desc=what, total=total, leave=False, file=sys.stderr)
        self._bar.n, self._bar.total = done, total
        self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _bar() -> _Bar | None:
    try:
        from tqdm import tqdm
    except ImportError:  # the base install has none
        return None
    return _Bar(tqdm)


def _lines() -> Progress:
    begun: set[str] = set()

    def tell(what: str, _done: int, total: int) -> None:
        if what not in begun:
            begun.add(what)
            print(f"{what} ({total})" if total > 1 else what, file=sys.stderr, flush=True)

    return tell


def complain(error: ImageError) -> None:
    """Say why an image has no answer, on standard error."""
    print(f"vit-edge: error: {one_line(str(error))}", file=sys.stderr)


def tell_each(
    images: Sequence[str],
    answers: Iterable[Answer | ImageError],
    as_json: bool,
    tell: Callable[[str, Answer], None],
) -> int:
    """Tell each image's answer; one that has none is reported, and the rest goes on.

    Args:
        images: by their names.
        answers: one of each.
        as_json: report in a line of JSON, too.
        tell: an image's answer.

    Returns:
        The exit status, 2 where one was refused.
    """
    refused = 0
    for image, answer in zip(images, answers, strict=True):
        if isinstance(answer, ImageError):
            refused += 1
            complain(answer)
            if as_json:
                print(json.dumps({"image": image, "error": str(answer)}))
        else:
            tell(image, answer)
    return 2 if refused else 0
