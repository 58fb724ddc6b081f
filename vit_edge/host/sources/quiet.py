"""Transformers without its progress bars and reports; what matters of them is checked and said by us."""

import contextlib
from collections.abc import Iterator


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


def first_line(error: Exception) -> str:
    """An error of somebody else's in one line, without any folder's path."""
    lines = str(error).strip().splitlines()
    if not lines or "/" in lines[0] or "\\" in lines[0]:
        return type(error).__name__
    return f"{type(error).__name__}: {lines[0][:200]}"
