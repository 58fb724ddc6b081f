"""Other libraries without their progress bars and reports; what matters of them is checked and said by us."""

import contextlib
from collections.abc import Iterator
from typing import Any

from vit_edge.errors import SourceError


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Nothing of transformers reaches the terminal while this lasts; it must be installed."""
    from transformers.utils import logging

    told, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(told)
        if bar:
            logging.enable_progress_bar()


def installed_transformers() -> Any:
    """The library.

    Raises:
        SourceError: it is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise SourceError("transformers is not installed: pip install transformers") from None
    return transformers


@contextlib.contextmanager
def loading(library: str, what: str) -> Iterator[None]:
    """Whatever a file leads a library to raise becomes one sentence.

    Raises:
        SourceError: names the library and what it cannot load.
    """
    try:
        yield
    except Exception as error:
        raise SourceError(f"{library} cannot load {what} ({first_line(error)})") from error


def first_line(error: Exception) -> str:
    """An error of somebody else's in one line, without any folder's path."""
    lines = str(error).strip().splitlines()
    if not lines or "/" in lines[0] or "\\" in lines[0]:
        return type(error).__name__
    return f"{type(error).__name__}: {lines[0][:200]}"
