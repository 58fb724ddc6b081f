"""Keys in messages."""

from collections.abc import Iterable


def listed(keys: Iterable[str], most: int = 6) -> str:
    """The first so many of them by name, and how many there are besides."""
    ordered = sorted(keys)
    rest = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + rest
