"""Writes the tables of docs/peers.md, and its charts, from the results.

python -m tools.peers.page
"""

import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.peers.charts import CHANGED, NOISE, Measure, bars, scatter
from tools.peers.contrast import contrast
from tools.peers.record import APART, read
from tools.peers.table import environments, markdown
from tools.written_page import DOCS, remade, write_images
from vit_edge.errors import UsageError

RESULTS = Path(__file__).resolve().parents[2] / "models" / "results"
PAGE = DOCS / "peers.md"
BEGIN = "<!-- python -m tools.peers.page writes what follows -->"

Results = Mapping[str, Any]  # kind of CPU -> what was measured there


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model that every quantizer was given.

    Args:
        title: of its sections.
        about: one sentence.
        file: of its results.
        images: how the names of its charts begin.
        measure: by which quantizers are told apart in the chart.
    """

    title: str
    about: str
    file: Path
    images: str
    measure: Measure


HARD = Subject(
    "A hard model",
    "ViT-Tiny/16 tells a thousand classes of ImageNet apart.",
    RESULTS / "peers_vit_tiny.json",
    "peers",
    CHANGED,
)
EASY = Subject(
    "An easy model",
    "The same ViT-Tiny, tuned to tell three kinds of blood cells apart (`python -m tools.train_cells`).",
    RESULTS / "peers_cells.json",
    "peers-cells",
    NOISE,
)


def main() -> int:
    try:
        results = {subject: read(subject.file) for subject in (HARD, EASY)}
    except UsageError as error:
        print(f"peers: {error}", file=sys.stderr)
        return 2
    for subject, found in results.items():
        write_images(drawn(subject, found))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
    return 0


def page(text: str, results: Mapping[Subject, Results]) -> str:
    """The page with its part between the two marks made anew.

    Raises:
        ValueError: it does not have both marks once.
    """
    parts = [
        _section(subject, kind, result)
        for subject, found in results.items()
        for kind, result in found.items()
    ]
    for kind in results[HARD]:
        if kind in results.get(EASY, {}):
            words = contrast(results[HARD][kind], results[EASY][kind])
            parts.append(f"\n## What the easy model shows, with {_named(kind)}\n{words}")
    return remade(text, BEGIN, [*parts, _environments(list(results.values()))])


def drawn(subject: Subject, results: Results) -> dict[str, str]:
    """File name -> SVG, two for each kind of CPU."""
    return {
        name: text
        for kind, result in results.items()
        for name, text in (
            (_image(subject, kind, "scatter"), scatter(result, subject.measure)),
            (_image(subject, kind, "bars"), bars(result)),
        )
    }


def _image(subject: Subject, kind: str, name: str) -> str:
    return f"{subject.images}-{kind.lower()}-{name}.svg"


def _named(kind: str) -> str:
    return re.sub(r"^other$", "other CPUs", kind)


def _section(subject: Subject, kind: str, result: Mapping[str, Any]) -> str:
    machine, latency = result["machine"], result["latency"]
    cpu = f"{machine['cpu']} ({', '.join(machine['flags'])}), {machine['system']}"
    apart = [row["name"] for row in result["rows"] if APART in row]
    added = f" Timed in a run of their own, beside float: {', '.join(apart)}." if apart else ""
    before, after = (latency[f"load_average_{when}"][0] for when in ("before", "after"))
    return "\n".join(
        [
            f"\n## {subject.title}, with {_named(kind)}",
            f"{subject.about} {machine['cores']} cores of an {cpu}; "
            f"{result['calibration']['images']} calibration images, {result['evaluation']['images']} others; "
            f"a quantizer is ended after {result['limit_s']} s of the processor, and all together took "
            f"{_minutes(result['rows']):.0f} minutes of it; "
            f"latency is of one image on one thread, the median ratio of {latency['rounds']} rounds in turn, "
            f"on a machine whose load went from {before:.1f} to {after:.1f}.{added}",
            "",
            f"![{subject.measure.title}, against latency](images/{_image(subject, kind, 'scatter')})",
            "",
            markdown(result),
            "",
            f"![Latency against float](images/{_image(subject, kind, 'bars')})",
            "",
        ]
    )


def _minutes(rows: Sequence[Mapping[str, Any]]) -> float:
    """Of the processor, for all recipes that made something; each once, however many engines run it."""
    seconds = {row["name"]: float(row.get("made", {}).get("cpu_seconds", 0.0)) for row in rows}
    return sum(seconds.values()) / 60


def _environments(results: Sequence[Results]) -> str:
    """Of all results; what was asked for twice is listed once, as it was first."""
    found: dict[str, Any] = {}
    for each in results:
        for result in each.values():
            found = result["environments"] | found
    space = sum(each["size_mb"] for each in found.values()) / 1000
    return "\n".join([f"\n## Environments\nTogether {space:.1f} GB.\n", environments(found), ""])


if __name__ == "__main__":
    sys.exit(main())
