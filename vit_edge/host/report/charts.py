"""The charts of what was measured, each from facts alone, at the width of a phone."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from vit_edge.host.report.facts import ModelFacts
from vit_edge.host.report.svg import Colour, chart
from vit_edge.manifest import LayerRecord, Seen

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 350  # points
PANEL = 170  # of a small multiple
LONGEST_NAME = 36  # characters
STRIP_POINTS = 120  # drawn per model, evenly spread over its sorted times

# form: (marker, colour); the shapes tell them apart without the colours
FORMS: dict[str, tuple[str, Colour]] = {
    "int8": ("o", Colour.INT8),
    "int8_row": ("^", Colour.ROW),
    "int8_fine": ("D", Colour.ROW),
    "int8_a16": ("v", Colour.ROW),
    "float32": ("s", Colour.FLOAT),
    "tanh": ("D", Colour.GOOD),
}
GLYPHS = {"o": "●", "^": "▲", "v": "▼", "s": "■", "D": "◆"}  # the same shapes in text
_OTHER_FORM = ("x", Colour.BAD)


def intervals(models: Sequence[ModelFacts], limit: float) -> Markup:
    """What was lost per INT8 model with its interval, against what is tolerated."""
    rows: list[tuple[str, float, float, float]] = []
    for model in models:
        if model.gate is not None:
            lost = model.gate.lost
            low, high = model.gate.drop_ci95 or model.gate.evidence.disagreement_ci95
            rows.append((model.name, lost, low, high))
    labelled = any(model.gate is not None and model.gate.drop is not None for model in models)
    evidence = [model.gate.evidence for model in models if model.gate is not None]
    blind = "images whose prediction changed, %"
    if any(each.maps for each in evidence):
        boxes = any(each.boxes for each in evidence)
        blind = f"images whose {'boxes' if boxes else 'map'} changed, %"
    if any(each.embeddings is not None for each in evidence):
        blind = "images whose embedding moved, %"
    truth = next((each.truth[0].measure.words for each in evidence if each.truth), "top-1 accuracy")
    what = f"drop in {truth}, points" if labelled else blind

    def draw(axes: "Axes") -> None:
        places = range(len(rows))
        axes.axvspan(-1e3, limit, color=Colour.GOOD, alpha=0.12, linewidth=0)
        axes.axvline(limit, color=Colour.GOOD, linewidth=1)
        axes.hlines(
            places, [row[2] for row in rows], [row[3] for row in rows], color=Colour.INT8, linewidth=2
        )
        axes.plot([row[1] for row in rows], places, "o", color=Colour.INT8, markersize=5)
        for place, (name, *_) in enumerate(rows):
            _text(axes, 0.0, place - 0.2, shortened(name), Colour.INK)
        reach = [limit, 0.0, *(value for row in rows for value in row[2:])]
        margin = 0.06 * (max(reach) - min(reach)) or 1.0
        axes.set_xlim(min(reach) - margin, max(reach) + margin)
        _list_style(axes, len(rows), what)

    words = "; ".join(f"{name}: {lost:.2f}, from {low:.2f} to {high:.2f}" for name, lost, low, high in rows)
    return chart(
        "intervals",
        (WIDTH, 52 + 34 * len(rows)),
        draw,
        f"What was lost, with its 95 % interval. Shaded: what is tolerated, up to {limit:g} "
        f"{'points' if labelled else '%'}.",
        f"{what}, with 95 % intervals: {words}. Tolerated: {limit:g}.",
    )


def latencies(models: Sequence[ModelFacts]) -> Markup:
    """Every run's time per model, with the median."""
    end = 1.05 * max(_fence(model.times_ms) for model in models)
    beyond = sum(int(np.count_nonzero(np.asarray(model.times_ms) > end)) for model in models)

    def draw(axes: "Axes") -> None:
        for place, model in enumerate(models):
            colour = Colour.FLOAT if model.gate is None else Colour.INT8
            points = _spread(model.times_ms)
            jitter = place + 0.16 * np.sin(2.399963 * np.arange(points.size))  # the golden angle: no pattern
            shown = points <= end
            axes.plot(
                points[shown], jitter[shown], "o", color=colour, alpha=0.35, markersize=3, markeredgewidth=0
            )
            middle = model.latency.median_ms
            axes.vlines(middle, place - 0.27, place + 0.27, color=Colour.INK, linewidth=1.6)
            _text(axes, 0.0, place - 0.3, f"{shortened(model.name)}, median {middle:.2f} ms", Colour.INK)
        axes.set_xlim(0, end)
        _list_style(axes, len(models), "ms per image")

    total = sum(len(model.times_ms) for model in models)
    rest = f" {beyond} of {total} runs were slower than the axis reaches." if beyond else ""
    return chart(
        "latency",
        (WIDTH, 44 + 46 * len(models)),
        draw,
        f"Each dot is one run of one image, the models taken in turn; the line is the median.{rest}",
        "; ".join(
            f"{model.name}: median {model.latency.median_ms:.2f} ms, 95th percentile "
            f"{model.latency.p95_ms:.2f} ms"
            for model in models
        ),
    )


def sensitivities(layers: Sequence[LayerRecord]) -> list[Markup]:
    """Small multiples: per kind of layer, the logits' signal to noise ratio over the depth of the model."""
    known = [layer for layer in layers if layer.sensitivity_db is not None]
    if not known:
        return []
    groups = _by_kind(known)
    values = [layer.sensitivity_db or 0.0 for layer in known]
    span = math.floor(min(values) / 5) * 5 - 3, math.ceil(max(values) / 5) * 5 + 1
    return [
        _sensitivity(f"sensitivity{place}", kind, group, span)
        for place, (kind, group) in enumerate(groups.items())
    ]


def _by_kind(layers: Sequence[LayerRecord]) -> dict[str, list[tuple[str, LayerRecord]]]:
    """(block, layer) by what `blocks.7.fc2` is called without its number; those without peers under ""."""
    split = [(re.search(r"^(.*?)\.(\d+)\.(.*)$", layer.name), layer) for layer in layers]
    kinds = Counter(found.group(1, 3) for found, _ in split if found)
    groups: dict[str, list[tuple[str, LayerRecord]]] = defaultdict(list)
    for found, layer in split:
        if found and kinds[found.group(1, 3)] > 1:
            groups[found[3]].append((found[2], layer))
    others = [(layer.name, layer) for found, layer in split if not found or kinds[found.group(1, 3)] == 1]
    return dict(groups) | ({"": others} if others else {})


def _sensitivity(
    name: str, kind: str, group: Sequence[tuple[str, LayerRecord]], span: tuple[float, float]
) -> Markup:
    ratios = [layer.sensitivity_db or 0.0 for _, layer in group]

    def draw(axes: "Axes") -> None:
        axes.grid(axis="y")
        axes.vlines(range(len(group)), ratios, span[1], color=Colour.LINE, linewidth=1)
        for place, ((_, layer), ratio) in enumerate(zip(group, ratios, strict=True)):
            marker, colour = FORMS.get(layer.form, _OTHER_FORM)
            axes.plot([place], [ratio], marker, color=colour, markersize=5)
        axes.set_ylim(*span)
        axes.set_xlim(-0.7, len(group) - 0.3)
        step = max(1, math.ceil(len(group) / 8)) if kind else 1
        labels = [label.removeprefix("blocks.") for label, _ in group]
        axes.set_xticks(range(0, len(group), step), labels[::step], rotation=0 if kind else 30)
        axes.set_ylabel("dB")

    title = kind or "others"
    lowest = min(group, key=lambda each: each[1].sensitivity_db or 0.0)
    words = ", ".join(f"{label} {ratio:.0f} dB" for (label, _), ratio in zip(group, ratios, strict=True))
    return chart(
        name,
        (PANEL, 118),
        draw,
        f"{title}: lowest {lowest[1].sensitivity_db:.0f} dB in {lowest[1].name}",
        f"Signal to noise ratio of the logits with one layer alone in static INT8, {title}: {words}",
    )


def pareto(candidates: Sequence[Seen]) -> Markup | None:
    """Accuracy against latency of the models that were tried; None where there are not two of them."""
    if len(candidates) < 2:
        return None
    drops = [each.top1_drop for each in candidates if each.top1_drop is not None]
    losses, unit = drops, "points of top-1 lost"
    if len(drops) < len(candidates):
        losses, unit = [each.agreement for each in candidates], "% agreement with float"
    points = list(enumerate(zip(candidates, losses, strict=True), 1))

    def draw(axes: "Axes") -> None:
        axes.grid()
        for number, (each, loss) in points:
            colour = Colour.INT8 if each.chosen else Colour.FLOAT
            place = each.latency_ratio, loss
            axes.plot(*place, "o", color=colour, markersize=7 if each.chosen else 5)
            axes.annotate(str(number), place, (5, 4), textcoords="offset points", color=Colour.INK)
        axes.margins(0.12)
        axes.set_xlabel("latency against float")
        axes.set_ylabel(unit)

    words = "; ".join(f"{number}: {each.latency_ratio:.2f}, {loss:.2f}" for number, (each, loss) in points)
    caption = "The candidates by their numbers above; the one that was chosen is blue and larger."
    return chart("pareto", (WIDTH, 220), draw, caption, f"Latency against float and {unit}: {words}")


def shortened(name: str) -> str:
    """Without its middle where it would not fit into a chart."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME // 2]}…{name[-LONGEST_NAME // 2 :]}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _fence(times: Sequence[float]) -> float:
    """Tukey's outer fence: what is slower was disturbed, or the slowest where nothing is."""
    first, third = np.percentile(times, [25, 75])
    return min(float(third + 3 * (third - first)), max(times))


def _spread(ordered: Sequence[float]) -> npt.NDArray[np.float64]:
    places = np.linspace(0, len(ordered) - 1, min(len(ordered), STRIP_POINTS)).round().astype(int)
    return np.asarray([ordered[place] for place in places], np.float64)


def _text(axes: "Axes", x: float, y: float, text: str, colour: Colour) -> None:
    """At a share of the width."""
    axes.text(x, y, text, transform=axes.get_yaxis_transform(), color=colour, va="bottom")


def _list_style(axes: "Axes", rows: int, label: str) -> None:
    """Rows from top to bottom, without an axis of their own."""
    axes.set_ylim(rows - 0.5, -0.75)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_xlabel(label)
