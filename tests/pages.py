"""The pages for people: what they link to, and which commands they tell to type."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md"), *ROOT.glob("models/*/*.md")]
)

_FENCED = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S)
_INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


class Command(NamedTuple):
    """One command as a page shows it."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def links(page: Path) -> list[str]:
    """The targets of a page's links, those outside the project left out."""
    return [link for link in _LINK.findall(page.read_text()) if not re.match(r"[a-z]+:", link)]


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(first: str) -> list[Command]:
    """Every command of all pages whose first words are these, each once."""
    found = dict.fromkeys(
        Command(page.relative_to(ROOT).as_posix(), tuple(words))
        for page in PAGES
        for line in _lines(page.read_text())
        if (words := shlex.split(line, comments=True))[: len(first.split())] == first.split()
    )
    return list(found)


def _lines(text: str) -> list[str]:
    """Lines of code blocks, joined where they end in a backslash, and pieces of code within sentences."""
    blocks = [block.replace("\\\n", " ") for block in _FENCED.findall(text)]
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    indented = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    inline = [piece.replace("\n", " ") for piece in _INLINE.findall(_FENCED.sub("", text))]
    starts = ("vit-edge ", "python -m ", "bash ", "pip ")
    found = [*lines, *(line.removeprefix("- run: ") for line in lines), *indented, *inline]
    return [line for line in found if line.startswith(starts)]
