"""From a matplotlib figure to an inline SVG that takes its colours and its typeface from the page."""

import enum
import io
import re
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from vit_edge.host.report.needs import check_installed
from vit_edge.host.templates import html, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Draw = Callable[["Axes"], None]


class Colour(enum.StrEnum):
    """Stand-ins that matplotlib takes for colours, each becoming a variable of the style sheet."""

    INK = "#000001"
    MUTED = "#000002"
    LINE = "#000003"
    FLOAT = "#000004"
    INT8 = "#000005"
    ROW = "#000006"
    BAD = "#000007"
    GOOD = "#000008"

    @property
    def variable(self) -> str:
        """As CSS writes it."""
        return f"var(--{self.name.lower()})"


_SETTINGS = {
    "svg.fonttype": "none",  # text stays text: small, searchable, and in the page's typeface
    "svg.hashsalt": "vit-edge",  # the same figure gives the same bytes
    "text.parse_math": False,  # a dollar sign in a name is no formula
    "font.size": 9,
    "text.color": Colour.MUTED.value,
    "axes.labelcolor": Colour.MUTED.value,
    "axes.edgecolor": Colour.LINE.value,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": Colour.LINE.value,
    "ytick.color": Colour.LINE.value,
    "xtick.labelcolor": Colour.MUTED.value,
    "ytick.labelcolor": Colour.MUTED.value,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "grid.color": Colour.LINE.value,
    "grid.linewidth": 0.6,
}


def chart(name: str, size: tuple[int, int], draw: Draw, caption: str, description: str) -> Markup:
    """A figure with its caption.

    Args:
        name: unique on the page; prefix of the ids inside.
        size: width and height in points, the unit of the font sizes.
        draw: fills the axes.
        caption: shown below.
        description: what the chart shows, in words, for those who do not see it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    svg = Markup(drawing(name, size, draw, description))  # noqa: S704  matplotlib's own, which escapes text
    return html("report/figure.html.j2", {"svg": svg, "caption": caption})


def drawing(name: str, size: tuple[int, int], draw: Draw, description: str) -> str:
    """The `svg` element alone, whose colours are variables of the page; the arguments are those of `chart`.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    check_installed()
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with warnings.catch_warnings(), mpl.rc_context(_SETTINGS):  # type: ignore[arg-type]  # its keys are literals there
        warnings.filterwarnings("ignore", message="Glyph")  # the page's typeface may have it
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), layout="constrained", facecolor="none")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.set_facecolor("none")
        draw(axes)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _inlined(stream.getvalue(), name, description)


def _inlined(text: str, name: str, description: str) -> str:
    """The `svg` element alone, with unique ids, the page's colours and typeface, and a description."""
    body = text[text.index("<svg") :]
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", body)
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", body)
    body = re.sub(r"font-family: [^;\"]*; ?", "", body)
    for colour in Colour:
        body = body.replace(colour.value, colour.variable)
    view = re.search(r'viewBox="([^"]*)"', body)
    assert view is not None  # noqa: S101  matplotlib always writes one
    start = f'<svg viewBox="{view[1]}" role="img" aria-label="{escape(printable(description))}">'
    return start + "".join(_lines(body[body.index(">") + 1 :]))


def _lines(text: str) -> Iterator[str]:
    """Without indentation and empty lines."""
    return (stripped + "\n" for line in text.splitlines() if (stripped := line.strip()))
