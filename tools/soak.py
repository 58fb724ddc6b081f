"""Classifies thousands of images in one process and fails if its memory grows.

Resident memory after 10,000 predictions must be within 2 % of that after 500.
"""

import argparse
import dataclasses
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vit_edge import Classifier, ImageError
from vit_edge.runtime.device.machine import describe_machine
from vit_edge.runtime.evaluate.dataset import list_images
from vit_edge.runtime.image.source import ImageSource

BAD_EVERY = 50  # an image that is refused now and then takes the ways that errors take


@dataclasses.dataclass(frozen=True)
class Soak:
    """Resident memory of this process at two points."""

    early: int  # predictions before the first point
    late: int  # and before the second
    early_mb: float  # MB (10^6 bytes)
    late_mb: float

    @property
    def growth(self) -> float:
        """In percent of the first."""
        return 100 * (self.late_mb / self.early_mb - 1)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return dataclasses.asdict(self) | {"growth_percent": self.growth}


def soak(classify: Classifier, sources: Iterable[ImageSource], early: int, late: int, batch: int = 1) -> Soak:
    """Classify the sources over and over.

    Args:
        classify: the classifier.
        sources: images.
        early: predictions before memory is first read.
        late: and before it is read again.
        batch: images in one run; 1 calls the classifier for each.
    """
    endless = itertools.cycle([*sources])
    stream: Iterable[ImageSource] = (
        b"no image" if number % BAD_EVERY == 0 else source for number, source in enumerate(endless, 1)
    )
    answers = classify.batch(stream, batch) if batch > 1 else (_answer(classify, each) for each in stream)
    marks = {}
    for number, _ in enumerate(itertools.islice(answers, late), 1):
        if number in (early, late):
            marks[number] = resident_mb()
    return Soak(early, late, marks[early], marks[late])


def resident_mb() -> float:
    """Resident memory of this process in MB (10^6 bytes), from Linux's process file system."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise SystemExit("this system does not tell a process's resident memory")
    return int(found.group(1)) * 1024 / 1e6


def noise(count: int = 20) -> list[ImageSource]:
    """Random pixels of various sizes, for want of photos."""
    generator = np.random.default_rng(0)
    sizes = generator.integers(50, 700, (count, 2))
    return [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def _answer(classify: Classifier, source: ImageSource) -> object:
    try:
        return classify(source)
    except ImageError as error:
        return error


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="ONNX file or bundle")
    parser.add_argument("--images", type=Path, help="folder of photos (default: random pixels)")
    parser.add_argument("--early", type=int, default=500)
    parser.add_argument("--late", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--most", type=float, default=2.0, help="growth in percent that is accepted")
    given = parser.parse_args(arguments)
    if not 0 < given.early < given.late:
        parser.error("--early must be above 0 and below --late")
    classify = Classifier(given.model, threads=given.threads)
    sources = noise() if given.images is None else list(list_images(given.images).paths)
    found = soak(classify, sources, given.early, given.late, given.batch)
    print(json.dumps(found.to_json() | {"machine": describe_machine().to_json()}, indent=1))
    if found.growth > given.most:
        raise SystemExit(f"memory grew by {found.growth:.1f} %, more than {given.most:g} %")


if __name__ == "__main__":
    main()
