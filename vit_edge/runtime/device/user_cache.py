"""Small files in the user's cache folder that may vanish, be damaged or be refused without harm.

They only save time. They lie in `$XDG_CACHE_HOME/vit-edge`, or in `~/.cache/vit-edge` where that variable is
unset or relative, as the XDG base directory specification has it.

Whoever can write there decides what is read there. A folder or file that belongs to somebody else, or that
others may write to, is therefore not used, which is said once in a line of the log (Python writes it to
standard error where no log is set up). Where the system knows no owners and modes, there is nothing to check.
"""

import errno
import functools
import logging
import os
import secrets
import stat
from pathlib import Path

from vit_edge.files import draft_beside, open_regular, read_descriptor

_SHARED = stat.S_IWGRP | stat.S_IWOTH  # others may write
_SECRET = "key"  # noqa: S105  the name of the file
_SECRET_BYTES = 32

_log = logging.getLogger(__name__)


class _Untrusted(OSError):  # noqa: N818  an OSError as any other to who calls
    """Somebody else can decide what is there."""


def cache_folder() -> Path | None:
    """Where the files are, whether or not the folder exists; None for a user without a home."""
    stated = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if stated.is_absolute():
        return stated / "vit-edge"
    try:
        return Path.home() / ".cache" / "vit-edge"
    except RuntimeError:
        return None


def read_cached(name: str, most: int) -> bytes | None:
    """The bytes of one file, None where it is absent, unreadable, not trusted or longer than `most` bytes.

    Args:
        name: relative to the folder.
        most: bytes.
    """
    return _read(name, most, _SHARED)


def write_cached(name: str, data: bytes) -> bool:
    """Write one file whole or not at all; False where the folder cannot be written or is not trusted."""
    root = cache_folder()
    if root is None:
        return False
    path = root / name
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        for folder in _folders(root, path):
            folder.mkdir(mode=0o700, exist_ok=True)
            _check(folder, folder.stat(), _SHARED)
        with draft_beside(path, private=True) as draft:
            draft.write_bytes(data)
            draft.replace(path)
    except OSError as error:
        _tell(error)
        return False
    return True


def user_secret() -> bytes | None:
    """Bytes that nobody but this user can read, made at the first call; None where they cannot be kept."""
    found = _secret()
    if found is None and write_cached(_SECRET, secrets.token_bytes(_SECRET_BYTES)):
        found = _secret()  # as another process may have replaced it
    return found


def _secret() -> bytes | None:
    data = _read(_SECRET, _SECRET_BYTES, stat.S_IRWXG | stat.S_IRWXO)
    return data if data is not None and len(data) == _SECRET_BYTES else None


def _read(name: str, most: int, forbidden: int) -> bytes | None:
    root = cache_folder()
    if root is None:
        return None
    path = root / name
    try:
        for folder in _folders(root, path):
            _check(folder, folder.stat(), _SHARED)
        descriptor = open_regular(path, getattr(os, "O_NOFOLLOW", 0))
        try:
            _check(path, os.fstat(descriptor), forbidden)
        except _Untrusted:
            os.close(descriptor)
            raise
        return read_descriptor(descriptor, most)
    except OSError as error:
        _tell(error)
        return None


def _folders(root: Path, path: Path) -> list[Path]:
    """The folder of the cache and those below it that lead to a file, from the outermost."""
    return [*(folder for folder in reversed(path.parents) if folder.is_relative_to(root))]


def _check(path: Path, found: os.stat_result, forbidden: int) -> None:
    """Refuse what somebody else can change, or, of a secret, read.

    Raises:
        _Untrusted: with what is wrong and its mend.
    """
    if not hasattr(os, "geteuid"):
        return
    if found.st_uid != os.geteuid():
        what = f"it belongs to user {found.st_uid}; name a folder of your own in XDG_CACHE_HOME"
        raise _Untrusted(errno.EPERM, what, os.fspath(path))
    if stat.S_IMODE(found.st_mode) & forbidden:
        others = "write to" if forbidden == _SHARED else "read"
        what = f"others may {others} it; run: chmod go-{'w' if forbidden == _SHARED else 'rwx'} {path}"
        raise _Untrusted(errno.EPERM, what, os.fspath(path))


def _tell(error: OSError) -> None:
    if isinstance(error, _Untrusted):
        _warn(f"vit-edge: note: {error.filename} is not used as a cache: {error.strerror}")


@functools.cache
def _warn(text: str) -> None:
    """Once in a process."""
    _log.warning("%s", text)
