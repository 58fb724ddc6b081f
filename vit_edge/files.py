"""Files in and out: read within bounds, written whole or not at all.

Every refusal is an OSError whose `strerror` is a clause such as "it is no regular file"; the caller knows
what the file is for and turns it into its own error. Nothing but regular files is ever opened for reading: a
named pipe would wait for ever, and to open a device may be to act on it.

What a killed process leaves behind is swept by the next run: a draft is locked as long as its owner lives,
and the system drops the lock with the process.
"""

import contextlib
import ctypes
import errno
import functools
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

AnyPath = str | os.PathLike[str]

_STALE = 3600  # seconds after which a draft is left over, where the system knows no locks
_SCRATCH = re.compile(r"vit-edge-[0-9a-f]{16}\.tmp")
_AT_FDCWD, _RENAME_EXCHANGE, _RENAME_SWAP = -100, 2, 2
_UNABLE = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM})


def read_file(path: AnyPath, most: int) -> bytes:
    """The bytes of a regular file, or of the one that a link leads to.

    Memory is set aside for what the file holds, never for what somebody says that it holds.

    Args:
        path: the file.
        most: bytes.

    Raises:
        FileNotFoundError: there is none.
        OSError: no regular file, longer than `most`, growing, or unreadable.
    """
    return read_descriptor(open_regular(path), most)


def open_regular(path: AnyPath, flags: int = 0) -> int:
    """A descriptor for reading a regular file; whatever else is there is never opened.

    Args:
        path: the file.
        flags: of `os.open`, such as O_NOFOLLOW.

    Raises:
        OSError: as in `read_file`.
    """
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", os.fspath(path))
        # It may have become something else since. Not blocking, or a named pipe would hang us even so.
        more = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))
        descriptor = os.open(path, os.O_RDONLY | more | flags)
    except ValueError:  # a null byte
        raise OSError(errno.EINVAL, "no name that a file can have", os.fspath(path)) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", os.fspath(path))
    return descriptor


def read_descriptor(descriptor: int, most: int) -> bytes:
    """The bytes of an open regular file, which is closed.

    Raises:
        OSError: longer than `most`, growing, or unreadable.
    """
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        if size > most:
            raise OSError(errno.EFBIG, f"it is larger than {most} bytes")
        data = file.read(size + 1)  # Python sets aside as much memory as it is asked to read
    if len(data) > size:
        raise OSError(errno.EBUSY, "it grew while it was read")
    return data


def read_text(path: AnyPath, most: int) -> str:
    """The text of a regular file in UTF-8, with or without a byte order mark; line ends as they are.

    Raises:
        OSError: as in `read_file`.
        UnicodeDecodeError: no UTF-8.
    """
    return read_file(path, most).decode("utf-8-sig")


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
    with _owned(
        lambda: target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp"), folder, private
    ) as made:
        yield made


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder that only its owner may enter; those of dead processes are removed, too."""
    place = Path(tempfile.gettempdir())
    _sweep(place, _SCRATCH)
    with _owned(lambda: place / f"vit-edge-{secrets.token_hex(8)}.tmp", folder=True, private=True) as made:
        yield made


def sweep(target: Path) -> None:
    """Remove what processes that were killed while they wrote this file or folder have left beside it.

    A folder that one of them had put aside is put back first, where it left no other.
    """
    if not target.exists():
        recover(target, patience=0)
    _sweep(target.parent, re.compile(re.escape(f".{target.name}.") + r"[0-9a-f]{16}\.(tmp|old)"))


def put_in_place(draft: Path, target: Path) -> None:
    """Rename a folder to the target; what was there takes the draft's name.

    Where the system can exchange two names, there is a target at every moment. Elsewhere the old folder has
    the name of the draft with the suffix `.old` for a moment; `recover` puts it back should the process die.

    Raises:
        OSError: the target is as it was.
    """
    if not target.exists():
        draft.rename(target)
        return
    if exchange(draft, target):
        return
    old = draft.with_suffix(".old")
    with _taken(target):  # so that nobody sweeps or recovers it meanwhile
        target.rename(old)
        try:
            draft.rename(target)
        except OSError:
            with contextlib.suppress(OSError):
                old.rename(target)
            raise
        with contextlib.suppress(OSError):
            old.rename(draft)


def recover(target: Path, patience: float = 2.0) -> bool:
    """Put a folder back that a process was killed in replacing; whether the target is there now.

    Waits for a process that is about to replace it.

    Args:
        target: the folder.
        patience: seconds to wait at most.
    """
    pattern = re.compile(re.escape(f".{target.name}.") + r"[0-9a-f]{16}\.old")
    ends = time.monotonic() + patience
    while not target.exists():
        old = _matching(target.parent, pattern)
        if not old:
            return target.exists()
        with _taken(max(old, key=lambda path: path.stat().st_mtime)) as (path, dead):
            if dead and not target.exists():
                with contextlib.suppress(OSError):
                    path.rename(target)
        if time.monotonic() > ends:
            break
        time.sleep(0.01)
    return target.exists()


def exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two files or folders at once; False where the system cannot.

    renameat2 of Linux with RENAME_EXCHANGE, renamex_np of macOS with RENAME_SWAP.

    Raises:
        OSError: it can, and the names cannot be exchanged.
    """
    call = _exchanger()
    if call is None:
        return False
    if call(os.fsencode(one), os.fsencode(other)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNABLE:  # an old kernel, or a file system without it
        return False
    raise OSError(number, os.strerror(number), os.fspath(other))


@functools.cache
def _exchanger() -> Callable[[bytes, bytes], int] | None:
    if sys.platform not in ("linux", "darwin"):
        return None
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "linux" and hasattr(library, "renameat2"):
        kinds = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
        library.renameat2.argtypes = kinds
        return lambda one, other: int(library.renameat2(_AT_FDCWD, one, _AT_FDCWD, other, _RENAME_EXCHANGE))
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        library.renamex_np.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint)
        return lambda one, other: int(library.renamex_np(one, other, _RENAME_SWAP))
    return None


# Drafts and their owners


@contextlib.contextmanager
def _owned(name: Callable[[], Path], folder: bool, private: bool) -> Iterator[Path]:
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
def _taken(path: Path) -> Iterator[tuple[Path, bool]]:
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


def _sweep(folder: Path, pattern: re.Pattern[str]) -> None:
    for found in _matching(folder, pattern):
        with _taken(found) as (path, dead):
            if dead:
                _remove(path)


def _matching(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
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
