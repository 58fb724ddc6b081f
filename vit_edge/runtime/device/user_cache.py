"""Small files in the user's cache folder that may vanish, be damaged or be refused without harm.

They only save time. They lie in `$XDG_CACHE_HOME/vit-edge`, or in `~/.cache/vit-edge` where that variable is
unset or relative, as the XDG base directory specification has it.
"""

import contextlib
import os
import tempfile
from pathlib import Path


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
    """The bytes of one file, None where it is absent, unreadable or longer than `most` bytes.

    Args:
        name: relative to the folder.
        most: bytes.
    """
    folder = cache_folder()
    if folder is None:
        return None
    try:
        with (folder / name).open("rb") as file:
            data = file.read(most + 1)
    except OSError:
        return None
    return data if len(data) <= most else None


def write_cached(name: str, data: bytes) -> bool:
    """Write one file whole or not at all; False where the folder cannot be written."""
    folder = cache_folder()
    if folder is None:
        return False
    path = folder / name
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(draft).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(draft).unlink()
            raise
    except OSError:
        return False
    return True
