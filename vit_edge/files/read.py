"""Regular files read within bounds."""

import errno
import os
import stat
from pathlib import Path

AnyPath = str | os.PathLike[str]


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
