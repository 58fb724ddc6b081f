"""HTML that is escaped by construction: plain strings become text, only `Html` is taken as it is."""

import html
from collections.abc import Iterable, Sequence

NONE = "\N{EN DASH}"  # stands where there is no figure
LONGEST_FIGURE = 24  # characters
TIMES = "\N{MULTIPLICATION SIGN}"


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def escaped(text: str) -> Html:
    """The text itself, whatever it holds, for element content and quoted attributes.

    Characters that HTML cannot hold or that change the direction of what follows become U+FFFD.
    """
    if isinstance(text, Html):
        return text
    return Html(html.escape("".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)))


def el(name: str, *children: str, **attributes: str) -> Html:
    """An element; attribute names end in `_` where Python has the word, and `_` within stands for `-`."""
    stated = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"' for key, value in attributes.items()
    )
    return Html(f"<{name}{stated}>{join(children)}</{name}>")


def join(parts: Iterable[str]) -> Html:
    """One after the other."""
    return Html("".join(map(escaped, parts)))


def image(source: str, alternative: str) -> Html:
    """An `img`, which has no end tag."""
    return Html(f'<img src="{escaped(source)}" alt="{escaped(alternative)}">')


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """A table that scrolls by itself where it is wider than the page; the first cell of a row heads it."""
    head = el("tr", *(el("th", each, scope="col") for each in heads))
    body = [el("tr", el("th", row[0], scope="row"), *map(_cell, row[1:])) for row in rows]
    whole = el("table", el("caption", caption), el("thead", head), el("tbody", *body))
    return el("div", whole, class_="scroll", role="region", aria_label=caption, tabindex="0")


def _cell(text: str) -> Html:
    """Figures stay on one line, sentences wrap."""
    is_sentence = len(text) > LONGEST_FIGURE and not isinstance(text, Html)
    return el("td", text, class_="text") if is_sentence else el("td", text)
