"""Warnings hidden for the moment that a header takes."""

import warnings
from collections.abc import Sequence
from typing import Any

from vit_edge.runtime.device.lock import Lock


class Quiet(Lock):
    """Hides the warnings of a few calls in all threads, in a fifth of the time of `warnings.catch_warnings`.

    What is ignored leaves no trace in a module's registry of warnings, so none has to be told of the change.
    It is a lock, since the list of filters belongs to the process.
    """

    def __init__(self) -> None:
        super().__init__()
        self._hidden: Sequence[tuple[Any, ...]] | None = None  # what stands otherwise

    def renew(self) -> None:
        """Be free, and hide nothing any more."""
        self._show()
        super().renew()

    def __enter__(self) -> None:
        super().__enter__()
        self._hidden = warnings.filters
        warnings.filters = [("ignore", None, Warning, None, 0)]

    def __exit__(self, *exception: object) -> None:
        self._show()
        super().__exit__(*exception)

    def _show(self) -> None:
        if self._hidden is not None:
            warnings.filters, self._hidden = self._hidden, None


quiet = Quiet()
