"""How often the intervals for embeddings miss: the figures of docs/evidence.md, computed again.

Usage: python -m tools.coverage_embeddings [-o models/results/coverage_embeddings.json] [--runs 400]

Each run draws images of clustered embeddings and an INT8 form with noise, judges them, and asks whether each
95 % interval holds the truth: that of the same gallery, taken on many more queries. Seeds are fixed; nothing
but numpy is needed.
"""

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_edge.embedding_report import NEIGHBOURS, Criterion
from vit_edge.spec import LEAST_COSINE, EmbeddingTolerance
from vit_edge.verify import judge_embeddings
from vit_edge.verify.embeddings import split
from vit_edge.verify.fidelity import ComparedOutput, likeness
from vit_edge.verify.neighbours import nearest, overlap, probed, voted
from vit_edge.verify.quantile import TAIL

Reals = NDArray[np.float64]
Row = dict[str, Any]

DIM, CLASSES, ASKED = 24, 6, 3000  # of embeddings; queries that tell the truth
NOISES = (0.05, 0.2, 0.5)
SIZES = (100, 400)


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """Images (N, D) as both models see them, and their classes (N,)."""

    reference: Reals
    other: Reals
    labels: NDArray[np.int64]


def drawn(generator: np.random.Generator, centres: Reals, count: int, noise: float) -> Drawn:
    """Some images hard, some easy: the noise of an INT8 model is not the same on all."""
    labels = generator.integers(0, CLASSES, count)
    reference = centres[labels] + generator.normal(0, 1, (count, DIM))
    spread = noise * generator.gamma(2.0, 0.5, (count, 1))
    return Drawn(reference, reference + spread * generator.normal(0, 1, (count, DIM)), labels)


def truths(seen: Drawn, gallery: NDArray[np.intp], asked: Drawn) -> Iterator[tuple[Criterion, float]]:
    """What each interval should hold, on many images that it has not seen."""
    alike = likeness(asked.reference, asked.other).cosines
    yield Criterion.COSINE, float(np.maximum(alike, LEAST_COSINE).mean())
    yield Criterion.TAIL, float(np.quantile(alike, TAIL))
    pairs = ((seen.reference, asked.reference), (seen.other, asked.other))
    found = [nearest(known[gallery], queries, NEIGHBOURS) for known, queries in pairs]
    yield Criterion.RECALL, 100.0 * float(overlap(found[0][0], found[1][0]).mean())
    classes = seen.labels[gallery]
    votes = [voted(*each, classes) == asked.labels for each in found]
    probes = [probed(known[gallery], classes, queries) == asked.labels for known, queries in pairs]
    yield Criterion.NEIGHBOURS, 100.0 * float(votes[0].mean() - votes[1].mean())
    yield Criterion.PROBE, 100.0 * float(probes[0].mean() - probes[1].mean())


def coverage(runs: int) -> list[Row]:
    """Percent of runs in which each interval holds the truth, and its mean width."""
    rows = []
    for size in SIZES:
        for noise in NOISES:
            held: dict[Criterion, list[bool]] = {each: [] for each in Criterion}
            widths: dict[Criterion, list[float]] = {each: [] for each in Criterion}
            for seed in range(runs):
                generator = np.random.default_rng(seed)
                centres = generator.normal(0, 0.8, (CLASSES, DIM))
                seen = drawn(generator, centres, size, noise)
                asked = drawn(generator, centres, ASKED, noise)
                output = ComparedOutput.of(seen.reference, seen.other)
                report = judge_embeddings({"embedding": output}, seen.labels, EmbeddingTolerance())
                intervals = {each.criterion: each.ci95 for each in report.criteria}
                for criterion, truth in truths(seen, split(size, None).gallery, asked):
                    low, high = intervals[criterion] or (0.0, 0.0)
                    held[criterion].append(low <= truth <= high)
                    widths[criterion].append(high - low)
            rows += [
                {
                    "images": size,
                    "noise": noise,
                    "criterion": criterion.value,
                    "coverage": round(100.0 * float(np.mean(held[criterion])), 2),
                    "mean_width": round(float(np.mean(widths[criterion])), 4),
                }
                for criterion in Criterion
            ]
    return rows


def main() -> None:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path("models/results/coverage_embeddings.json"))
    parser.add_argument("--runs", type=int, default=400)
    args = parser.parse_args()
    result = {"runs": args.runs, "rows": coverage(args.runs)}
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
