"""The charts of ranges: what quantized activations and weights hold, against what their integers can."""

import math
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from vit_edge.host.report.charts import GLYPHS, WIDTH
from vit_edge.host.report.operands import RangeKind
from vit_edge.host.report.ranges import ActivationRange, Ranges, WeightRange
from vit_edge.host.report.svg import Colour, chart
from vit_edge.verify import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EXACT_DB = 100.0  # quantization noise below float32's own
_KINDS = {
    RangeKind.STATIC: ("o", Colour.INT8),
    RangeKind.IMAGE: ("D", Colour.GOOD),
    RangeKind.PER_TOKEN: ("^", Colour.ROW),
}


def activation_noise(ranges: Ranges) -> Markup | None:
    """Every quantized activation by what rounding does to it, in graph order; None where all are exact."""
    shown = [each for each in ranges.activations if each.sqnr_db < EXACT_DB]
    if not shown:
        return None
    lowest = min(shown, key=lambda each: each.sqnr_db)

    def draw(axes: "Axes") -> None:
        axes.grid(axis="y")
        for kind, (marker, colour) in _KINDS.items():
            places = [place for place, each in enumerate(shown) if each.kind is kind]
            ratios = [shown[place].sqnr_db for place in places]
            axes.plot(places, ratios, marker, color=colour, markersize=3.5, alpha=0.8, markeredgewidth=0)
        place = shown.index(lowest)
        side = "left" if place < len(shown) / 2 else "right"
        axes.annotate(
            lowest.layer,
            (place, lowest.sqnr_db),
            (0, -12),
            textcoords="offset points",
            ha=side,
            color=Colour.INK,
        )
        axes.margins(x=0.03, y=0.2)
        axes.set_xticks([])
        axes.set_xlabel("from the input of the model to its output")
        axes.set_ylabel("dB")

    kinds = {kind: sum(each.kind is kind for each in shown) for kind in RangeKind}
    counts = ", ".join(
        f"{count} {kind.value} ({GLYPHS[_KINDS[kind][0]]})" for kind, count in kinds.items() if count
    )
    return chart(
        "noise",
        (WIDTH, 170),
        draw,
        "Signal to quantization noise of every quantized activation, observed on "
        f"{ranges.images} images; the lower, the more is lost. Ranges: {counts}.",
        f"{len(shown)} activations ({counts}); the lowest is {lowest.layer} "
        f"with {words.decibel(lowest.sqnr_db)}.",
    )


def activation(name: str, each: ActivationRange) -> Markup:
    """The values of one activation against the range of its integers."""
    edges = np.linspace(*each.edges, len(each.counts) + 1)
    _, colour = _KINDS[each.kind]

    def draw(axes: "Axes") -> None:
        axes.stairs(np.maximum(each.counts, 0.7), edges, fill=True, color=colour, alpha=0.75, baseline=0.7)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_ylim(0.7, 2 * max(each.counts))
        if each.range is not None:
            axes.axvspan(*each.range, color=Colour.GOOD, alpha=0.13, linewidth=0)
            for end in each.range:
                axes.axvline(end, color=Colour.GOOD, linewidth=1)
        axes.set_ylabel("values")

    return chart(name, (WIDTH, 130), draw, _range_words(each), f"Histogram: {_range_words(each)}")


def _range_words(each: ActivationRange) -> str:
    ratio = words.decibel(each.sqnr_db) if math.isfinite(each.sqnr_db) else "exact"
    seen = f"Activation, {ratio}: values from {each.seen[0]:.3g} to {each.seen[1]:.3g}"
    if each.range is not None:
        low, high = each.range
        held = f"INT8 holds {low:.3g} to {high:.3g} (shaded)"
        return f"{seen}; {held} and clips {100 * each.clipped:.2g} % of them."
    median, largest = each.row_reach
    if each.kind is RangeKind.PER_TOKEN:
        reach = f"{median:.3g} in the median and {largest:.3g} at most"
        return f"{seen}; one scale per token, whose reach is {reach}."
    return f"{seen}; one range per run, though half of the tokens reach no further than {median:.3g}."


def weight(name: str, each: WeightRange) -> Markup:
    """How far the output channels of one weight reach."""

    def draw(axes: "Axes") -> None:
        places = np.linspace(0, 1, len(each.reaches)) if len(each.reaches) > 1 else np.zeros(1)
        axes.fill_between(places, 0, each.reaches, color=Colour.FLOAT, alpha=0.35, linewidth=0)
        axes.plot(places, each.reaches, color=Colour.FLOAT, linewidth=1.4)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, None)
        axes.set_xticks([0, 0.5, 1], ["least", "median", "widest"])
        axes.set_ylabel("largest |weight|")

    middle = each.reaches[len(each.reaches) // 2]
    words = (
        f"Weight: its {each.channels} output channels reach from {each.reaches[0]:.3g} to "
        f"{each.reaches[-1]:.3g}, {middle:.3g} in the median."
    )
    return chart(name, (WIDTH, 130), draw, words, words)
