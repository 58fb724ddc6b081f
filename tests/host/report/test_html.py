"""What the templates of the page make of values: nothing that a name or label holds becomes markup."""

from html.parser import HTMLParser

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_edge.host.report.figures import code, verdict_word
from vit_edge.host.templates import html, printable
from vit_edge.manifest import Machine
from vit_edge.spec import Verdict


class Reader(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title><svg onload=alert(1)>",
    "&lt;b&gt;",
    "]]><!--",
    "猫 ﷽ 🐈",
]


def figures(rows: list[list[str]]) -> str:
    """A section with a table of three columns."""
    values = {
        "machine": Machine("A processor", 2, (), "Linux", "3.11.2", "1.32.0"),
        "threads": "1 thread",
        "heads": ["model", "size", "why"],
        "rows": rows,
        "latencies": "",
        "profiles": [],
    }
    return html("report/speed.html.j2", values)


def bar(text: str) -> str:
    """A piece with a text and an attribute."""
    return html("report/bar.html.j2", {"tone": text, "width": 5.0, "text": text})


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str) -> None:
    read = Reader(bar(text))
    shown = [("class", "bar"), ("style", f"--tone: {text}"), ("style", "width: 5.0%")]
    assert (read.tags, read.attributes, read.text) == (["span", "span", "i"], shown, text)


@given(st.text())
def test_any_text_stays_text_and_in_its_attribute(text: str) -> None:
    read = Reader(bar(text))
    shown = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
    assert read.text == shown
    assert read.attributes[1] == ("style", f"--tone: {shown}")
    assert read.tags == ["span", "span", "i"]


@pytest.mark.parametrize("text", ["\0", "\x1b[31m", "\u202egpj.exe", "\u2066", "\ud800", "\r"])
def test_characters_that_mislead_are_replaced(text: str) -> None:
    assert "\ufffd" in str(printable(text))
    assert text not in bar(text)


def test_markup_is_not_escaped_twice() -> None:
    assert code("a & b") == "<code>a &amp; b</code>"
    shown = html("report/figure.html.j2", {"svg": code("a & b"), "caption": "<hr>"})
    assert "<code>a &amp; b</code><figcaption>&lt;hr&gt;</figcaption>" in shown


@pytest.mark.parametrize("verdict", Verdict)
def test_a_verdict_has_its_colour(verdict: Verdict) -> None:
    word = verdict.value
    assert verdict_word(verdict) == f'<span class="word {word.lower()}">{word}</span>'


def test_a_value_that_a_template_lacks_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="caption"):
        html("report/figure.html.j2", {"svg": ""})


def test_a_table_names_its_rows_and_columns() -> None:
    text = figures([["a", "1", ""], ["b", "2", ""]])
    assert text.count('scope="col"') == 3
    assert text.count('scope="row"') == 2
    caption = "Models timed in turn, so that what slows the machine slows all of them"
    assert f"<caption>{caption}</caption>" in text
    assert f'role="region" aria-label="{caption}" tabindex="0"' in text  # a keyboard can scroll it


def test_figures_stay_on_one_line_and_sentences_wrap() -> None:
    text = figures([["a" * 40, "12.3 ms", "the fastest form that passes"]])
    assert "<td>12.3 ms</td>" in text
    assert '<td class="text">the fastest form that passes</td>' in text
