"""What a tool does that measures once: look where results go, measure, write, print."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vit_edge.cli.console import check_json, write_json
from vit_edge.errors import VitEdgeError


def told(
    measure: Callable[[], dict[str, Any]], out: Path | None, table: Callable[[dict[str, Any]], str]
) -> int:
    """The exit status: 0, or 2 where something is wrong with what was given, which one line says.

    Args:
        measure: makes the results, for minutes.
        out: where they are written as JSON; None: nowhere.
        table: the results for people.
    """
    try:
        check_json(out)
        result = measure()
        write_json(out, result)
    except VitEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(result))
    return 0
