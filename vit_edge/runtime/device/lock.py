"""A lock that no forked process finds taken."""

import os
import threading


class Lock:
    """As `threading.Lock`, but free in a forked process.

    The thread that held it when the process forked stays behind, so it would never be given back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):  # where processes can fork
            os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        """Be free, whoever holds it."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exception: object) -> None:
        self._lock.release()
