"""What a page is built from: nothing that a name or label holds becomes markup."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_edge.host.report.html import Html, el, escaped, image, join, table


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


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str) -> None:
    read = Reader(el("p", text, title=text))
    assert (read.tags, read.attributes, read.text) == (["p"], [("title", text)], text)


@given(st.text())
def test_any_text_stays_text_and_in_its_attribute(text: str) -> None:
    read = Reader(el("td", text, aria_label=text))
    shown = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
    assert (read.tags, read.attributes, read.text) == (["td"], [("aria-label", shown)], shown)


@pytest.mark.parametrize("text", ["\0", "\x1b[31m", "\u202egpj.exe", "\u2066", "\ud800", "\r"])
def test_characters_that_mislead_are_replaced(text: str) -> None:
    assert "\ufffd" in escaped(text)
    assert text not in escaped(text)


def test_html_is_not_escaped_twice() -> None:
    inner = el("b", "a & b")
    assert el("p", inner, " < ", inner) == "<p><b>a &amp; b</b> &lt; <b>a &amp; b</b></p>"
    assert join([Html("<hr>"), "<hr>"]) == "<hr>&lt;hr&gt;"


def test_attribute_names_are_spelled_as_html_has_them() -> None:
    assert el("th", "a", scope="col", class_="x", aria_label="y") == (
        '<th scope="col" class="x" aria-label="y">a</th>'
    )


def test_an_image_has_its_alternative() -> None:
    assert image("data:,", 'a "cat"') == '<img src="data:," alt="a &quot;cat&quot;">'


def test_a_table_names_its_rows_and_columns() -> None:
    text = table("Models", ["model", "size"], [["a", "1"], ["b", "2"]])
    assert text.count('scope="col"') == 2
    assert text.count('scope="row"') == 2
    assert "<caption>Models</caption>" in text
    assert 'role="region" aria-label="Models" tabindex="0"' in text  # a keyboard can scroll it


def test_figures_stay_on_one_line_and_sentences_wrap() -> None:
    text = table("", ["", "", ""], [["a" * 40, "12.3 ms", "the fastest form that passes"]])
    assert "<td>12.3 ms</td>" in text
    assert '<td class="text">the fastest form that passes</td>' in text
