"""The texts of the pages for people, as Jinja2 templates, and what fills them in.

A template knows how a page looks; what it says is worked out in Python before.
"""

import base64
import functools
from collections.abc import Mapping

import jinja2
from markupsafe import Markup

from vit_edge.verify.words import decibel, map_measure, percent, truth_score

LONGEST_FIGURE = 24  # characters of a cell; what is longer is a sentence


def render(name: str, values: Mapping[str, object]) -> str:
    """A page.

    Args:
        name: of the template; in one of HTML every value is escaped that is not `Markup`.
        values: by the names that the template gives them.

    Raises:
        jinja2.UndefinedError: the template needs another value.
    """
    return _environment().get_template(name).render(values)


def html(name: str, values: Mapping[str, object]) -> Markup:
    """A part of a page of HTML, to be a value of another template.

    Raises:
        jinja2.UndefinedError: the template needs another value.
    """
    return Markup(render(name, values))  # noqa: S704  its values were escaped


def printable(value: object) -> object:
    """A value as a page may hold it: what is no markup becomes text.

    Characters that HTML cannot hold or that change the direction of what follows become U+FFFD.
    """
    if isinstance(value, Markup):
        return value
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in str(value))


@functools.cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, ""),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        finalize=printable,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "percent": percent,
        "decibel": decibel,
        "counts": _counts,
        "map_measure": map_measure,
        "truth_score": truth_score,
    }
    made.filters["base64"] = _base64
    made.tests["sentence"] = _is_sentence
    return made


def _counts(found: Mapping[str, int] | None) -> str:
    """Such as "12 int8, 2 float32"."""
    return ", ".join(f"{count} {name}" for name, count in sorted((found or {}).items()))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _is_sentence(cell: str) -> bool:
    """Of a cell that may break into lines."""
    return len(cell) > LONGEST_FIGURE and not isinstance(cell, Markup)
