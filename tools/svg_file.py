"""Charts as files of their own, in the light or dark colours of whoever looks at them."""

import html
from pathlib import Path

import vit_edge.host.report.svg as report_svg
from vit_edge.host.report.svg import Draw, drawing

_STYLE = Path(report_svg.__file__).with_name("style.css")


def svg_file(name: str, size: tuple[int, int], draw: Draw, description: str) -> str:
    """An SVG that stands alone, with the colours of the report's style sheet.

    Args:
        name: prefix of the ids inside.
        size: width and height in points.
        draw: fills the axes.
        description: what the chart shows, in words, for those who do not see it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    body = drawing(name, size, draw, description)
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    sheet = _STYLE.read_text(encoding="utf-8")
    colours = sheet[: sheet.index("\n* {")]
    style = f"{colours}\nsvg {{ background: var(--paper); font-family: system-ui, sans-serif; }}"
    start = f'<svg {spaces} width="{size[0]}" height="{size[1]}"'
    end = body.index(">") + 1
    return f"{start}{body[4:end]}\n<style>{html.escape(style, quote=False)}</style>{body[end:]}"
