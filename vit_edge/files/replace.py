"""A folder that takes another's place at once, and what is put back where a process died in doing it."""

import contextlib
import ctypes
import errno
import functools
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from vit_edge.files.owned import matching, taken

_AT_FDCWD, _RENAME_EXCHANGE, _RENAME_SWAP = -100, 2, 2
_UNABLE = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM})


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
    with taken(target):  # so that nobody sweeps or recovers it meanwhile
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
        old = matching(target.parent, pattern)
        if not old:
            return target.exists()
        with taken(max(old, key=lambda path: path.stat().st_mtime)) as (path, dead):
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
