"""Files and folders written whole or not at all."""

import contextlib
import errno
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vit_edge.files.owned import owned, sweep_names
from vit_edge.files.read import AnyPath
from vit_edge.files.replace import recover

_SCRATCH = re.compile(r"vit-edge-[0-9a-f]{16}\.tmp")


def write_file(path: AnyPath, data: bytes) -> None:
    """Replace a regular file at once, or make it; a link stays, and its target is replaced.

    What is neither a file nor a folder (a pipe, a device) is written to and stays what it is.

    Raises:
        OSError: a folder, or it cannot be written; an earlier file is then as it was.
    """
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder", os.fspath(path))
        _write_into(path, data)
        return
    target = Path(os.path.realpath(path))
    with draft_beside(target) as draft:
        with draft.open("r+b") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            draft.chmod(stat.S_IMODE(mode))
        draft.replace(target)


def _write_into(path: AnyPath, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_NOCTTY", 0))
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        left = memoryview(data)
        while left:
            left = left[file.write(left) or 0 :]


@contextlib.contextmanager
def draft_beside(target: Path, folder: bool = False, private: bool = False) -> Iterator[Path]:
    """An empty file or folder beside the target, to be renamed to it; what is left of it then is removed.

    Drafts of the same target whose owners are dead are removed, too.

    Args:
        target: what it will become.
        folder: whether it is a folder.
        private: whether only its owner may read it.
    """
    sweep(target)
    with owned(
        lambda: target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp"), folder, private
    ) as made:
        yield made


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder that only its owner may enter; those of dead processes are removed, too."""
    place = Path(tempfile.gettempdir())
    sweep_names(place, _SCRATCH)
    with owned(lambda: place / f"vit-edge-{secrets.token_hex(8)}.tmp", folder=True, private=True) as made:
        yield made


def sweep(target: Path) -> None:
    """Remove what processes that were killed while they wrote this file or folder have left beside it.

    A folder that one of them had put aside is put back first, where it left no other.
    """
    if not target.exists():
        recover(target, patience=0)
    sweep_names(target.parent, re.compile(re.escape(f".{target.name}.") + r"[0-9a-f]{16}\.(tmp|old)"))
