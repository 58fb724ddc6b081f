"""Images per second of a folder job: in one process, in several, over Ray; and what millions of images take.

    python -m tools.bench_jobs BUNDLE --images DIR -o models/results/jobs.json
    python -m tools.bench_jobs --table models/results/jobs.json

The ways run in turn, so that what else the machine does strikes all alike. Each image is read from its file,
decoded, resized and answered, and its row is written. Ray is left out where it is not installed.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from vit_edge.errors import UsageError
from vit_edge.runtime.device.machine import describe_machine, usable_cores
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.job.answers import Opening
from vit_edge.runtime.job.names import Wanted
from vit_edge.runtime.job.run import run_job
from vit_edge.runtime.spread.task import Engine, Spread

MILLIONS = (1, 10, 100)
DAY_S = 86_400.0

_UNTIMED = 4  # the first fourth of the rows: models load, queues fill


@dataclasses.dataclass(frozen=True)
class Way:
    """How a job is spread."""

    name: str
    threads: int | None
    spread: Spread


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a way."""

    start_s: float  # until the first row
    images_per_s: float  # behind the first fourth of the rows
    row_bytes: float


def ways(workers: int) -> Iterator[Way]:
    """What is compared."""
    yield Way("one process", None, Spread())
    yield Way("one process, one thread", 1, Spread())
    yield Way(f"{workers} processes", 1, Spread(workers))
    if importlib.util.find_spec("ray") is not None:
        yield Way(f"Ray, {workers} workers", 1, Spread(workers, Engine.RAY))


def timed(bundle: Path, folder: Path, way: Way) -> Run:
    """Run a job once."""
    times: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        results = Path(place) / "rows.jsonl"
        start = time.perf_counter()
        done = run_job(
            Wanted((str(folder),)),
            Opening(bundle, None, threads=way.threads),
            results,
            way.spread,
            lambda *_: times.append(time.perf_counter()),
        )
        if done.failed:
            raise UsageError(f"{done.failed} of {done.images} images have an error; give others")
        size = results.stat().st_size
    first = len(times) // _UNTIMED
    rate = (len(times) - 1 - first) / (times[-1] - times[first])
    return Run(times[0] - start, rate, size / len(times))


def measure(bundle: Path, images: Path, count: int, workers: int, rounds: int) -> dict[str, Any]:
    """Every way in turn, some rounds."""
    paths = list_images(images).paths
    chosen = [paths[index % len(paths)] for index in range(count)]
    runs: dict[str, list[Run]] = {}
    with tempfile.TemporaryDirectory() as place:
        for index, path in enumerate(chosen):
            (Path(place) / f"{index:06}{path.suffix}").symlink_to(path.absolute())
        for _ in range(rounds):
            for way in ways(workers):
                runs.setdefault(way.name, []).append(timed(bundle, Path(place), way))
                print(f"{way.name}: {runs[way.name][-1].images_per_s:.1f} images/s", file=sys.stderr)
    model = Opening(bundle, None).read()
    return {
        "machine": describe_machine().to_json(),
        "cores": usable_cores(),
        "load": os.getloadavg()[0],
        "onnxruntime": onnxruntime.__version__,
        "model": {"file": model.path.name, "sha256": model.sha256},
        "images": {"count": count, "mean_bytes": sum(path.stat().st_size for path in chosen) / count},
        "ways": {
            name: {"runs": [dataclasses.asdict(run) for run in found]} | _medians(found)
            for name, found in runs.items()
        },
    }


def _medians(runs: Sequence[Run]) -> dict[str, float]:
    return {
        field.name: statistics.median(getattr(run, field.name) for run in runs)
        for field in dataclasses.fields(Run)
    }


def table(found: dict[str, Any]) -> str:
    """What 1, 10 and 100 million such images take: a table in Markdown."""
    heads = [f"{count} million" for count in MILLIONS]
    lines = [f"| | images/s | {' | '.join(heads)} |", f"|---|---|{'---|' * len(heads)}"]
    for name, way in found["ways"].items():
        rate = way["images_per_s"]
        cells = [took(count * 1e6 / rate) for count in MILLIONS]
        lines.append(f"| {name} | {rate:.1f} | {' | '.join(cells)} |")
    best = max(way["images_per_s"] for way in found["ways"].values())
    machines = [f"{max(1, -(-count * 10**6 // int(best * DAY_S)))}" for count in MILLIONS]
    lines.append(f"| such machines for one day | | {' | '.join(machines)} |")
    row = max(way["row_bytes"] for way in found["ways"].values())
    lines.append(f"| rows, as JSON lines | | {' | '.join(size(count * 1e6 * row) for count in MILLIONS)} |")
    read = found["images"]["mean_bytes"]
    lines.append(f"| images to read | | {' | '.join(size(count * 1e6 * read) for count in MILLIONS)} |")
    return "\n".join(lines) + "\n"


def took(seconds: float) -> str:
    """`5.2 h`, or `3.1 days` from two days on."""
    return f"{seconds / 3600:.1f} h" if seconds < 2 * DAY_S else f"{seconds / DAY_S:.1f} days"


def size(count: float) -> str:
    """`430 MB`, `4.3 GB` or `1.2 TB`."""
    for unit, text in ((1e12, "TB"), (1e9, "GB")):
        if count >= unit:
            return f"{count / unit:.1f} {text}"
    return f"{count / 1e6:.0f} MB"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--images", type=Path, help="a folder of images")
    parser.add_argument("-o", "--out", type=Path, help="the results, as JSON")
    parser.add_argument("--count", type=int, default=400, help="images of a run (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="(default: one for each core)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print the table of results instead")
    args = parser.parse_args(words)
    if args.table is not None:
        print(table(json.loads(args.table.read_text())), end="")
        return 0
    if None in (args.bundle, args.images, args.out):
        parser.error("give BUNDLE, --images and -o, or --table")
    found = measure(args.bundle, args.images, args.count, args.workers, args.rounds)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
