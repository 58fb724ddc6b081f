"""Writes the tables and charts of docs/growth.md from what `tools.bench_scale` measured.

python -m tools.growth
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.svg_file import svg_file
from tools.written_page import DOCS, remade, write_images
from vit_edge.host.report.svg import Colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "models" / "results" / "scale.json"
PAGE = DOCS / "growth.md"
BEGIN = "<!-- python -m tools.growth writes what follows -->"
SIZE = (620, 320)  # points
COLOURS = {"float": Colour.FLOAT, "int8": Colour.INT8}

Rows = Sequence[Mapping[str, Any]]


def main() -> int:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    write_images(drawn(results))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
    return 0


def page(text: str, results: Mapping[str, Any]) -> str:
    """The page with its part between the two marks made anew.

    Raises:
        ValueError: it does not have both marks once.
    """
    machine = results["machine"]
    parts = [
        f"\n{machine['cores']} cores of an {machine['cpu']} ({', '.join(machine['flags'])}), onnxruntime "
        f"{machine['onnxruntime']}.\n",
        "![Latency against multiply-adds](images/growth-latency.svg)\n",
        "![Latency of larger images against multiply-adds](images/growth-image.svg)\n",
        latency_table(results["latency"]),
        "\n![What quantizing takes, against weights](images/growth-build.svg)\n",
        build_table(results["builds"]),
        "",
    ]
    return remade(text, BEGIN, parts)


def drawn(results: Mapping[str, Any]) -> dict[str, str]:
    """File name -> SVG."""
    latency, builds = results["latency"], results["builds"]
    models = "Latency of larger models"
    return {
        "growth-latency.svg": latency_chart("growth-latency", models, of_one_image(latency)),
        "growth-image.svg": latency_chart("growth-image", "Latency of larger images", of_one_shape(latency)),
        "growth-build.svg": build_chart(of_one_image(builds)),
    }


def of_one_image(rows: Rows) -> Rows:
    """Models of every shape, for the smallest image."""
    smallest = min(row["image_size"] for row in rows)
    return [row for row in rows if row["image_size"] == smallest]


def of_one_shape(rows: Rows) -> Rows:
    """Images of every size, in the model that took most of them."""
    shapes = dict.fromkeys(row["shape"] for row in rows)
    most = max(shapes, key=lambda shape: len({row["image_size"] for row in rows if row["shape"] == shape}))
    return [row for row in rows if row["shape"] == most]


def latency_table(rows: Rows) -> str:
    """One line for each file, batch and number of threads, with INT8 against float where both were timed."""
    floats = {_case(row): row["min_ms"] for row in rows if row["precision"] == "float"}
    lines = []
    for row in rows:
        whole = floats.get(_case(row))
        cells = [
            *(row[key] for key in ("shape", "image_size", "precision", "batch", "threads")),
            f"{row['giga_multiply_adds']:.2f}",
            f"{row['min_ms']:.1f}",
            f"{row['ms_per_giga']:.2f}",
            "" if whole is None else f"{row['min_ms'] / whole:.2f}",
            _megabytes(row["memory_mb"]),
        ]
        lines.append(_line(cells))
    titles = ["model", "image", "form", "batch", "threads", "10^9 multiply-adds", "ms", "ms for each 10^9"]
    return _table([*titles, "of float", "memory"], lines)


def build_table(rows: Rows) -> str:
    """What quantizing each model took."""
    lines = [
        _line(
            [
                row["shape"],
                row["image_size"],
                f"{row['weights_millions']:.1f}",
                f"{row['processor_seconds']:.0f}",
                f"{row['processor_seconds'] / row['weights_millions']:.1f}",
                _megabytes(row["peak_mb"]),
                f"{row['float_mb']:.1f} to {row['int8_mb']:.1f} MB",
            ]
        )
        for row in rows
    ]
    titles = ["model", "image", "million weights", "processor seconds", "for each million", "peak memory"]
    return _table([*titles, "float to INT8"], lines)


def latency_chart(name: str, title: str, rows: Rows) -> str:
    """Milliseconds of a single image on the fewest threads against its multiply-adds, both logarithmic."""
    threads = min(row["threads"] for row in rows)
    single = [row for row in rows if row["batch"] == 1 and row["threads"] == threads]

    def draw(axes: "Axes") -> None:
        for precision, colour in COLOURS.items():
            own = sorted(
                (row["giga_multiply_adds"], row["min_ms"]) for row in single if row["precision"] == precision
            )
            _series(axes, own, colour, precision)
        _finish(axes, "10^9 multiply-adds", "milliseconds")

    words = "; ".join(
        f"{row['shape']} at {row['image_size']} pixels, {row['precision']}: {row['min_ms']:.1f} ms for "
        f"{row['giga_multiply_adds']:.2f} times 10^9 multiply-adds"
        for row in single
    )
    return svg_file(name, SIZE, draw, f"{title} against multiply-adds. {words}")


def build_chart(rows: Rows) -> str:
    """Processor seconds of quantizing against weights, both logarithmic."""

    def draw(axes: "Axes") -> None:
        points = sorted((row["weights_millions"], row["processor_seconds"]) for row in rows)
        _series(axes, points, Colour.INT8, "quantizing")
        _finish(axes, "million weights", "processor seconds")

    words = "; ".join(
        f"{row['shape']} at {row['image_size']} pixels, {row['weights_millions']:.1f} million weights: "
        f"{row['processor_seconds']:.0f} s"
        for row in rows
    )
    return svg_file("growth-build", SIZE, draw, f"What quantizing takes, against weights. {words}")


def _finish(axes: "Axes", across: str, up: str) -> None:
    axes.grid()
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.legend(loc="best", frameon=False, labelcolor=Colour.MUTED.value, fontsize=8)


def _series(axes: "Axes", points: Sequence[tuple[float, float]], colour: Colour, name: str) -> None:
    """The points, and a faint line through the first of them: growth in proportion."""
    x, y = zip(*points, strict=True)
    axes.plot(x, y, "o-", color=colour, label=name, markersize=5)
    axes.plot(x, [y[0] * each / x[0] for each in x], "--", color=Colour.LINE, linewidth=1.2)


def _table(titles: Sequence[str], lines: Sequence[str]) -> str:
    return "\n".join([_line(titles), _line(["---"] * len(titles)), *lines])


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _megabytes(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} MB"


def _case(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["shape"], row["image_size"], row["batch"], row["threads"]


if __name__ == "__main__":
    sys.exit(main())
