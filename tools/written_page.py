"""Pages of docs of which a tool writes the part between two marks, with charts beside them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
IMAGES = DOCS / "images"
END = "<!-- and this is its end -->"


def remade(text: str, begin: str, parts: Sequence[str]) -> str:
    """The page with its part between the two marks made anew.

    Args:
        text: of the page.
        begin: the mark in front; that behind is END.
        parts: what stands between, in paragraphs or lines.

    Raises:
        ValueError: it does not have both marks once.
    """
    before, rest = text.split(begin)
    _, after = rest.split(END)
    return "\n".join([f"{before}{begin}", *parts, f"{END}{after}"])


def write_images(images: Mapping[str, str]) -> None:
    """The charts, by name, as SVG."""
    IMAGES.mkdir(exist_ok=True)
    for name, text in images.items():
        (IMAGES / name).write_text(text, encoding="utf-8")
