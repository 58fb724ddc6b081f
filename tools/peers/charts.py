"""Charts of a comparison."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tools.peers.table import decibels, engine_of, ordered
from tools.svg_file import svg_file
from vit_edge.host.report.svg import Colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 620  # points
OURS = "vit-edge"
MARKERS = {"onnxruntime": "o", "OpenVINO": "s", "ExecuTorch": "^", "LiteRT": "v", "PyTorch": "D"}
USELESS = 50.0  # percent of agreement, below which a row is drawn faintly
RATIOS = (0.25, 0.5, 1, 2, 4, 8, 16)
LEAST_CHANGED = 0.1  # percent; none at all is drawn here, the axis being logarithmic
MOST_DB = 40.0  # what is as good as float is drawn here


@dataclasses.dataclass(frozen=True)
class Measure:
    """What stands upright in a chart of rows against their latency; better is higher."""

    title: str
    label: str
    unit: str
    value: Callable[[Mapping[str, Any]], float]
    ticks: tuple[float, ...]
    limits: tuple[float, float]  # lower and upper end of the axis
    scale: str


def _changed(row: Mapping[str, Any]) -> float:
    return max(100.0 - float(row["agreement"]), LEAST_CHANGED)


def _noise(row: Mapping[str, Any]) -> float:
    return min(decibels(row), MOST_DB)


CHANGED = Measure(
    "Classes changed",
    "images of another class than float, %",
    "%",
    _changed,
    (0.1, 1.0, 10.0, 100.0),
    (130.0, 0.8 * LEAST_CHANGED),
    "log",
)
NOISE = Measure(
    "Noise of the logits",
    "signal to noise of the logits, dB",
    "dB",
    _noise,
    (0.0, 10.0, 20.0, 30.0, MOST_DB),
    (-5.0, 1.05 * MOST_DB),
    "linear",
)


def scatter(result: Mapping[str, Any], measure: Measure = CHANGED) -> str:
    """A measure against latency, each row by its number in the table."""
    rows = ordered(result["rows"])[1:]
    points = [(row["ratio_to_float"]["median"], measure.value(row)) for row in rows]

    def draw(axes: "Axes") -> None:
        axes.grid()
        axes.set(xscale="log", yscale=measure.scale)
        axes.axvline(1.0, color=Colour.LINE, linewidth=1.2)
        for number, (row, point) in enumerate(zip(rows, points, strict=True), 1):
            axes.plot(*point, _marker(row), color=_colour(row), markersize=6, markeredgewidth=0)
            axes.annotate(
                str(number), point, (5, 3), textcoords="offset points", color=Colour.INK, fontsize=8
            )
        axes.set_ylim(*measure.limits)
        axes.set_yticks(measure.ticks, [f"{tick:g}" for tick in measure.ticks])
        axes.set_xticks(RATIOS, [f"{ratio:g}" for ratio in RATIOS])
        axes.minorticks_off()
        axes.set_xlim(
            0.8 * min(ratio for ratio, _ in points), 1.25 * max(1.0, *(ratio for ratio, _ in points))
        )
        axes.set_xlabel("latency against float (left is faster)")
        axes.set_ylabel(measure.label)
        _legend(axes, rows)

    words = "; ".join(
        f"{number}: {row['name']} in {engine_of(row)}, {ratio:.2f} of the latency, {value:.1f} {measure.unit}"
        for number, (row, (ratio, value)) in enumerate(zip(rows, points, strict=True), 1)
    )
    return svg_file("scatter", (WIDTH, 380), draw, f"{measure.title} against latency. {words}")


def bars(result: Mapping[str, Any]) -> str:
    """Latency of every row against float, fastest first, with its accuracy and agreement in words."""
    rows = sorted(ordered(result["rows"]), key=lambda row: row["ratio_to_float"]["median"])
    labels = [_label(row) for row in rows]

    def draw(axes: "Axes") -> None:
        ratios = [row["ratio_to_float"]["median"] for row in rows]
        axes.barh(range(len(rows)), ratios, height=0.5, color=[_colour(row).value for row in rows])
        axes.axvline(1.0, color=Colour.LINE, linewidth=1.2)
        for place, label in enumerate(labels):
            axes.text(
                0,
                place - 0.3,
                label,
                transform=axes.get_yaxis_transform(),
                color=Colour.INK,
                va="bottom",
                fontsize=8,
            )
        axes.set_ylim(len(rows) - 0.5, -0.9)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_xlim(left=0)
        axes.set_xlabel("latency against float")

    words = "; ".join(
        f"{label}, {row['ratio_to_float']['median']:.2f}" for label, row in zip(labels, rows, strict=True)
    )
    return svg_file("bars", (WIDTH, 60 + 26 * len(rows)), draw, f"Latency against float. {words}")


def _label(row: Mapping[str, Any]) -> str:
    top1 = f"top-1 {row['top1']:.1f} %, " if "top1" in row else ""
    return f"{row['name']}, {engine_of(row)}: {top1}agreement {row['agreement']:.1f} %"


def _marker(row: Mapping[str, Any]) -> str:
    return MARKERS.get(engine_of(row), "x")


def _colour(row: Mapping[str, Any]) -> Colour:
    if row["agreement"] < USELESS:
        return Colour.LINE
    return Colour.INT8 if str(row["name"]).startswith(OURS) else Colour.FLOAT


def _legend(axes: "Axes", rows: Sequence[Mapping[str, Any]]) -> None:
    for engine in dict.fromkeys(engine_of(row) for row in rows):
        axes.plot([], [], MARKERS.get(engine, "x"), color=Colour.FLOAT, label=engine, linestyle="none")
    axes.plot([], [], "o", color=Colour.INT8, label=f"{OURS}, onnxruntime", linestyle="none")
    axes.legend(loc="best", frameon=False, labelcolor=Colour.MUTED.value, fontsize=8)
