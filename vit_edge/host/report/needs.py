"""What a report needs beyond the base install."""

import importlib.util

from vit_edge.errors import MissingExtraError

_NEEDED = ("matplotlib", "onnx", "jinja2")


def is_installed() -> bool:
    """Whether everything that a report needs is there."""
    return all(importlib.util.find_spec(module) for module in _NEEDED)


def check_installed() -> None:
    """Refuse where what a report needs beyond the base install is absent.

    Raises:
        MissingExtraError: the message holds the pip command.
    """
    for module in _NEEDED:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(module, "report")
