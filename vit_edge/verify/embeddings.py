"""The gate for embeddings: do these images show that an INT8 embedder is as good as the float one?

Every output is judged by its cosine to the float model's, mean over images and at its 1 % quantile, and
vectors of whole images also by what they are used for: whether an image's ten nearest neighbours are the
float model's (recall@10), and with labels whether neighbours and a linear probe classify as well.

The images are divided at random into a gallery and as many queries, whole scenes to one side. Neighbours and
the probe's teachers come from the gallery alone, so that the queries are independent given it, and intervals
for independent images hold; what they speak of is that gallery. An image's patches are not independent, so
that an image counts once, by the mean cosine of its patches.

PASS takes all criteria: each PASS errs with at most half of one less the confidence, and so do all together
(intersection-union: Berger, Technometrics 24, 1982, 295-300). FAIL takes one, so each gets its part of the
error (Bonferroni).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vit_edge.embedding_report import NEIGHBOURS, Criterion, CriterionFigures, EmbeddingReport
from vit_edge.errors import DatasetError
from vit_edge.spec import LEAST_COSINE, EmbeddingTolerance, Tolerance, Verdict
from vit_edge.verify.arrays import Floats, Integers
from vit_edge.verify.bounded import images_to_decide, mean_interval, per_scene
from vit_edge.verify.copies import Scenes
from vit_edge.verify.fidelity import ComparedOutput
from vit_edge.verify.gate import REPORTED_CONFIDENCE
from vit_edge.verify.neighbours import nearest, overlap, probed, voted
from vit_edge.verify.plan import plan_drop
from vit_edge.verify.proportion import clopper_pearson, smallest_sample
from vit_edge.verify.quantile import TAIL, quantile_interval
from vit_edge.verify.unconditional import exact_interval
from vit_edge.verify.verdict import Interval

LEAST_GALLERY = 4 * NEIGHBOURS  # of fewer images, chance alone would find too many of the ten nearest

Reals = NDArray[np.float64]
Levels = Callable[[float], Interval]  # the interval at a confidence


@dataclasses.dataclass(frozen=True, eq=False)
class Halves:
    """Rows of the images that are searched, and of those that search."""

    gallery: NDArray[np.intp]
    queries: NDArray[np.intp]


@dataclasses.dataclass(frozen=True)
class _Judged:
    """One criterion, before it knows of its output."""

    found: float | None
    interval: Interval | None  # at REPORTED_CONFIDENCE
    verdict: Verdict
    images: int
    needed: int | None
    accuracies: tuple[float, float] | None = None  # percent


def judge_embeddings(
    outputs: Mapping[str, ComparedOutput],
    labels: Integers | None,
    tolerance: EmbeddingTolerance,
    scenes: Scenes | None = None,
) -> EmbeddingReport:
    """Say what the images can show about an embedder.

    Args:
        outputs: by name, of N images each.
        labels: (N,) classes, or None.
        tolerance: what is accepted, and the two-sided confidence asked for.
        scenes: which images belong together, see `copies`; None where all are independent.

    Raises:
        DatasetError: labels of another number.
        ModelError: an output of the reference that is zero throughout.
    """
    count = len(next(iter(outputs.values())).likeness.cosines)
    if labels is not None and labels.shape != (count,):
        raise DatasetError(f"{len(labels)} labels do not fit {count} images; give each image one class")
    halves = split(count, scenes)
    searched = sum(each.vectors is not None for each in outputs.values())
    asked = len(outputs) * 2 + searched * (1 if labels is None else 3)
    judge = _Judge(tolerance, asked, scenes, halves)
    criteria: list[CriterionFigures] = []
    for name, each in outputs.items():
        alike = per_scene(each.likeness.cosines, scenes)
        criteria += [
            _named(name, Criterion.COSINE, judge.cosine(alike), tolerance.min_cosine),
            _named(name, Criterion.TAIL, judge.tail(alike), tolerance.min_cosine_tail),
        ]
        if each.vectors is not None:
            criteria += judge.uses(name, *each.vectors, labels)
    verdict = _worst([each.verdict for each in criteria])
    return EmbeddingReport(
        n=count,
        scenes=count if scenes is None else scenes.count,
        queries=len(halves.queries),
        gallery=len(halves.gallery),
        labelled=labels is not None,
        verdict=verdict,
        images_needed=_most_needed(criteria) if verdict is Verdict.UNDECIDED else 0,
        criteria=tuple(criteria),
        outputs={name: each.likeness.fidelity for name, each in outputs.items()},
        tolerance=tolerance,
    )


def split(count: int, scenes: Scenes | None) -> Halves:
    """Divide images at random, the same way every time, whole scenes to one side.

    Args:
        count: of the images.
        scenes: which of them belong together.
    """
    of = np.arange(count) if scenes is None else scenes.of
    groups = int(of.max()) + 1 if count else 0
    searched = np.random.default_rng(0).permutation(groups)[: groups // 2]
    inside = np.isin(of, searched)
    return Halves(np.flatnonzero(inside), np.flatnonzero(~inside))


class _Judge:
    """Judges by one criterion at a time."""

    def __init__(
        self, tolerance: EmbeddingTolerance, criteria: int, scenes: Scenes | None, halves: Halves
    ) -> None:
        self.tolerance, self.halves = tolerance, halves
        self.passing = tolerance.confidence
        self.failing = 1.0 - (1.0 - tolerance.confidence) / criteria
        self.queried = None if scenes is None else _scenes_of(scenes.of[halves.queries])

    def cosine(self, likeness: Reals) -> _Judged:
        """Of independent images (N,); see LEAST_COSINE."""
        span = 1.0 - LEAST_COSINE
        losses = np.clip((1.0 - likeness) / span, 0.0, 1.0)
        judged = self._mean(losses, (1.0 - self.tolerance.min_cosine) / span)
        low, high = judged.interval or (0.0, 1.0)
        return dataclasses.replace(
            judged, found=1.0 - span * float(losses.mean()), interval=(1.0 - span * high, 1.0 - span * low)
        )

    def tail(self, likeness: Reals) -> _Judged:
        """The 1 % quantile, judged by the share of images below what it must reach (Clopper and Pearson)."""
        count, limit = len(likeness), self.tolerance.min_cosine_tail
        below = int(np.count_nonzero(likeness < limit))

        def verdict(images: int) -> Verdict:
            return self._verdict(lambda level: clopper_pearson(below * images / count, images, level), TAIL)

        found = verdict(count)
        needed: int | None = 0
        if found is Verdict.UNDECIDED:
            enough = smallest_sample(lambda images: verdict(images) is not Verdict.UNDECIDED, count)
            needed = None if enough is None else enough - count
        value = float(np.quantile(likeness, TAIL, method="inverted_cdf"))
        return _Judged(value, quantile_interval(likeness, REPORTED_CONFIDENCE), found, count, needed)

    def uses(
        self, name: str, values: Floats, others: Floats, labels: Integers | None
    ) -> list[CriterionFigures]:
        """Of vectors (N, D) of whole images: recall, and with labels both drops."""
        drops = [Criterion.NEIGHBOURS, Criterion.PROBE] if labels is not None else []
        gallery, queries = self.halves.gallery, self.halves.queries
        if len(gallery) < LEAST_GALLERY:
            lacking = 2 * (LEAST_GALLERY - len(gallery))
            few = _Judged(None, None, Verdict.UNDECIDED, len(queries), lacking)
            return [_named(name, each, few, self._limit(each)) for each in (Criterion.RECALL, *drops)]
        found = [nearest(each[gallery], each[queries], NEIGHBOURS) for each in (values, others)]
        made = [
            _named(name, Criterion.RECALL, self._recall(found[0][0], found[1][0]), self.tolerance.min_recall)
        ]
        if labels is not None:
            known, truth = labels[gallery], labels[queries]
            for criterion, answers in (
                (Criterion.NEIGHBOURS, [voted(*each, known) for each in found]),
                (Criterion.PROBE, [probed(each[gallery], known, each[queries]) for each in (values, others)]),
            ):
                judged = self._drop(answers[0] == truth, answers[1] == truth)
                made.append(_named(name, criterion, judged, self.tolerance.max_drop))
        return made

    def _limit(self, criterion: Criterion) -> float:
        return self.tolerance.max_drop if criterion.is_drop else self.tolerance.min_recall

    def _recall(self, one: NDArray[np.intp], other: NDArray[np.intp]) -> _Judged:
        missed = per_scene(1.0 - overlap(one, other), self.queried)
        judged = self._mean(missed, 1.0 - self.tolerance.min_recall / 100.0, halved=True)
        low, high = judged.interval or (0.0, 1.0)
        return dataclasses.replace(
            judged,
            found=100.0 * (1.0 - float(missed.mean())),
            interval=(100.0 * (1.0 - high), 100.0 * (1.0 - low)),
        )

    def _mean(self, losses: Reals, limit: float, *, halved: bool = False) -> _Judged:
        """Of losses from 0 to 1 (N,), of whose mean a share is accepted; a half of the images are queries."""
        verdict = self._verdict(lambda level: mean_interval(losses, level, least=0.0), limit)
        needed: int | None = 0
        if verdict is Verdict.UNDECIDED:
            needed = images_to_decide(losses, 100.0 * limit, self.passing, least=0.0)
            needed = None if needed is None else needed * (2 if halved else 1)
        interval = mean_interval(losses, REPORTED_CONFIDENCE, least=0.0)
        return _Judged(float(losses.mean()), interval, verdict, len(losses), needed)

    def _drop(self, float_right: NDArray[np.bool_], quant_right: NDArray[np.bool_]) -> _Judged:
        weights = np.ones(len(float_right)) if self.queried is None else self.queried.weights
        total = float(weights.sum())
        lost = float(weights[float_right & ~quant_right].sum())
        gained = float(weights[~float_right & quant_right].sum())
        verdict = self._verdict(
            lambda level: exact_interval(lost, gained, total, level), self.tolerance.max_drop / 100.0
        )
        needed: int | None = 0
        if verdict is Verdict.UNDECIDED:
            asked = Tolerance(self.tolerance.max_drop, self.passing)
            together = plan_drop(lost, gained, total, asked, sequential=False).images
            needed = None if together is None else 2 * together
        low, high = exact_interval(lost, gained, total, REPORTED_CONFIDENCE)
        right = [100.0 * float(weights[each].sum()) / total for each in (float_right, quant_right)]
        return _Judged(
            right[0] - right[1],
            (100.0 * low, 100.0 * high),
            verdict,
            round(total),
            needed,
            (right[0], right[1]),
        )

    def _verdict(self, interval: Levels, limit: float) -> Verdict:
        """PASS at the confidence asked for, FAIL at that of one criterion among all."""
        if interval(self.passing)[1] <= limit:
            return Verdict.PASS
        return Verdict.FAIL if interval(self.failing)[0] > limit else Verdict.UNDECIDED


def _scenes_of(of: NDArray[np.intp]) -> Scenes:
    """Of some of the images, numbered anew."""
    _, first, numbers = np.unique(of, return_index=True, return_inverse=True)
    return Scenes(np.argsort(np.argsort(first))[numbers.reshape(-1)])


def _named(output: str, criterion: Criterion, judged: _Judged, limit: float) -> CriterionFigures:
    accuracies = judged.accuracies or (None, None)
    return CriterionFigures(
        output=output,
        criterion=criterion,
        found=judged.found,
        ci95=judged.interval,
        limit=limit,
        verdict=judged.verdict,
        images=judged.images,
        images_needed=judged.needed,
        accuracy_float=accuracies[0],
        accuracy_quant=accuracies[1],
    )


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    order = (Verdict.FAIL, Verdict.UNDECIDED, Verdict.PASS)
    return next(verdict for verdict in order if verdict in verdicts)


def _most_needed(criteria: Sequence[CriterionFigures]) -> int | None:
    needed = [each.images_needed for each in criteria if each.verdict is Verdict.UNDECIDED]
    known = [images for images in needed if images is not None]
    return max(known) if len(known) == len(needed) else None
