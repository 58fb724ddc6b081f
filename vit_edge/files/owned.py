"""Drafts and their owners: who lives holds a lock, what the dead have left may be taken or removed."""

import contextlib
import errno
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_STALE = 3600  # seconds after which a draft is left over, where the system knows no locks


@contextlib.contextmanager
def owned(name: Callable[[], Path], folder: bool, private: bool) -> Iterator[Path]:
    """A new file or folder of one of these names, locked until it is renamed or removed."""
    path, lock = _made(name, folder, private)
    try:
        yield path
    finally:
        _remove(path)
        if lock is not None:
            os.close(lock)


def _made(name: Callable[[], Path], folder: bool, private: bool) -> tuple[Path, int | None]:
    while True:
        path = name()
        if folder:
            path.mkdir(mode=0o700 if private else 0o777, parents=True)
        else:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666))
        lock = _lock(path)
        if lock is None or (lock >= 0 and _is_same(lock, path)):
            return path, lock
        # Somebody who sweeps took it for a leftover before it was locked.
        if lock >= 0:
            os.close(lock)
        _remove(path)


def _lock(path: Path) -> int | None:
    """A descriptor that locks the file or folder; -1: somebody else does; None: there are no locks here."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
    except OSError:
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        return -1 if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return descriptor


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False


@contextlib.contextmanager
def taken(path: Path) -> Iterator[tuple[Path, bool]]:
    """A leftover, and whether its owner is dead; as long as this lasts, nobody else takes it."""
    lock = _lock(path)
    try:
        dead = lock >= 0 and _is_same(lock, path) if lock is not None else _is_stale(path)
        yield path, dead
    finally:
        if lock is not None and lock >= 0:
            os.close(lock)


def _is_stale(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > _STALE
    except OSError:
        return False


def sweep_names(folder: Path, pattern: re.Pattern[str]) -> None:
    """Remove what the dead have left under these names."""
    for found in matching(folder, pattern):
        with taken(found) as (path, dead):
            if dead:
                _remove(path)


def matching(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    """Files and folders of these names that belong to this user; no links, no devices."""
    try:
        found = [path for path in folder.iterdir() if pattern.fullmatch(path.name)]
    except OSError:
        return []
    return [path for path in found if _is_own(path)]


def _is_own(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    mine = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    return mine and (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode))


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
