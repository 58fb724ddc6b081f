"""The texts of the pages for people, as Jinja2 templates, and what fills them in.

A template knows how a page looks; what it says is worked out in Python before.
"""

import functools
from collections.abc import Mapping

import jinja2

from vit_edge.verify.words import decibel, map_measure, percent


def render(name: str, values: Mapping[str, object]) -> str:
    """A page.

    Args:
        name: of the template; in one of HTML every value is escaped.
        values: by the names that the template gives them.

    Raises:
        jinja2.UndefinedError: the template needs another value.
    """
    return _environment().get_template(name).render(values)


@functools.cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, ""),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"percent": percent, "decibel": decibel, "counts": _counts, "map_measure": map_measure}
    return made


def _counts(found: Mapping[str, int] | None) -> str:
    """Such as "12 int8, 2 float32"."""
    return ", ".join(f"{count} {name}" for name, count in sorted((found or {}).items()))
