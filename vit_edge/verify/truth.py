"""The gate against truth: by how many points a measure falls, and what the images show of that.

Intervals are by bootstrap over images, both models on the same draws: of the Bayesian kind (Rubin 1981),
whose weights are Dirichlet, as a draw that leaves a class without any image would have no mean over classes.
Images of one scene share the weight of one.

A bootstrap knows only what it saw: where no image was spoilt, it would say that none ever is, even of ten.
So the interval that decides has one more image in each draw, which the quantized model gets wholly wrong and
the float model wholly right, or the other way round for the lower end. For the mean of bounded values that
is Gaffke's bound (2005; Learned-Miller and Thomas 2019), and of a share of images the interval of Clopper
and Pearson: with none changed, 122 images prove 3 %.
"""

import dataclasses
import math
import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vit_edge.errors import DatasetError
from vit_edge.gate_report import GateReport
from vit_edge.spec import Verdict
from vit_edge.truth_report import ClassScore, TruthScore
from vit_edge.verify.arrays import Reals
from vit_edge.verify.copies import Scenes
from vit_edge.verify.gate import REPORTED_CONFIDENCE
from vit_edge.verify.proportion import smallest_sample
from vit_edge.verify.scores import Scores
from vit_edge.verify.verdict import Interval, verdict_of

_DRAWS = 1000
_BEYOND = 25  # draws that lie beyond either end of an interval, at least
_SEED = 0
_CHUNK = 2**22  # weights at once


def judge_truth(
    report: GateReport,
    scores: tuple[Scores, Scores],
    labels: Sequence[str] | None = None,
    scenes: Scenes | None = None,
) -> GateReport:
    """A report on agreement turned into one about truth: `drop` is that of the first measure, in points.

    Args:
        report: of the same images, by `judge_maps`.
        scores: of the float model and of the quantized one, on the same N images.
        labels: of the classes.
        scenes: of the images.

    Raises:
        DatasetError: nothing is true of any image.
    """
    given, found = scores
    tolerance = report.evidence.tolerance
    draws = _draw(given, found, scenes, tolerance.confidence)
    rows = [_row(draws, index, tolerance.max_drop, tolerance.confidence) for index in range(draws.count)]
    first = dataclasses.replace(rows[0], classes=_classes(given, found, labels, draws.usual))
    undecided = first.verdict is Verdict.UNDECIDED
    needed = _needed(draws, tolerance.max_drop, tolerance.confidence) if undecided else 0
    return dataclasses.replace(
        report,
        drop=first.drop,
        drop_ci95=first.drop_ci95,
        verdict=first.verdict,
        images_needed=needed,
        evidence=dataclasses.replace(report.evidence, truth=(first, *rows[1:]), plan=None),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Draws:
    """B draws of M measures, 0 to 1."""

    given: Scores
    scenes: int
    usual: Reals  # (N,) weights as the images are
    float_now: Reals  # (M,)
    quant_now: Reals
    float_drawn: Reals  # (B, M)
    quant_drawn: Reals
    most: Reals  # (B, M) drop with an image that the quantized model alone gets wrong
    least: Reals  # (B, M) and with one that it alone gets right

    @property
    def count(self) -> int:
        return len(self.float_now)


def _draw(given: Scores, found: Scores, scenes: Scenes | None, confidence: float) -> _Draws:
    weights_now, scene_of = _usual(given, scenes)
    if not weights_now.size:
        raise DatasetError("there is no image to judge; give at least one")
    count = int(scene_of.max()) + 1
    draws = max(_DRAWS, math.ceil(2 * _BEYOND / (1 - confidence)))
    generator = np.random.default_rng(_SEED)
    parts: list[tuple[Reals, ...]] = []
    step = max(1, _CHUNK // (count + 1))
    for start in range(0, draws, step):
        drawn = generator.exponential(size=(min(step, draws - start), count + 1))
        weights, lead = drawn[:, scene_of] * weights_now, drawn[:, count]
        one, other = given.drawn(weights, lead), found.drawn(weights, lead)
        parts.append((one.plain, other.plain, one.right - other.wrong, one.wrong - other.right))
    float_drawn, quant_drawn, most, least = (np.concatenate(each) for each in zip(*parts, strict=True))
    return _Draws(
        given,
        count,
        weights_now,
        given.values(weights_now),
        found.values(weights_now),
        float_drawn,
        quant_drawn,
        most,
        least,
    )


def _usual(given: Scores, scenes: Scenes | None) -> tuple[Reals, NDArray[np.intp]]:
    """(N,) what each image counts for, and to which scene it belongs."""
    if scenes is not None:
        return scenes.weights, scenes.of
    images = given.images
    return np.ones(images), np.arange(images)


def _row(draws: _Draws, index: int, limit: float, confidence: float) -> TruthScore:
    now = float(draws.float_now[index]), float(draws.quant_now[index])
    drawn = draws.float_drawn[:, index], draws.quant_drawn[:, index]
    return TruthScore(
        measure=draws.given.measures[index],
        score_float=100 * now[0],
        score_float_ci95=_percent(_interval(drawn[0], drawn[0], now[0], REPORTED_CONFIDENCE)),
        score_quant=100 * now[1],
        score_quant_ci95=_percent(_interval(drawn[1], drawn[1], now[1], REPORTED_CONFIDENCE)),
        drop=100 * (now[0] - now[1]),
        drop_bootstrap95=_percent(
            _interval(drawn[0] - drawn[1], drawn[0] - drawn[1], now[0] - now[1], REPORTED_CONFIDENCE)
        ),
        drop_ci95=_percent(_deciding(draws, index, REPORTED_CONFIDENCE)),
        verdict=verdict_of(_deciding(draws, index, confidence), limit),
    )


def _deciding(draws: _Draws, index: int, confidence: float) -> Interval:
    now = float(draws.float_now[index] - draws.quant_now[index])
    return _interval(draws.least[:, index], draws.most[:, index], now, confidence)


def _interval(low: Reals, high: Reals, now: float, confidence: float) -> Interval:
    """What all but a few of the draws lie within, and what was observed."""
    tail = (1 - confidence) / 2
    return min(float(np.quantile(low, tail)), now), max(float(np.quantile(high, 1 - tail)), now)


def _needed(draws: _Draws, limit: float, confidence: float) -> int | None:
    """How many further images like these would decide by the first measure.

    What was drawn narrows with the square root of their number, what was not seen with the number itself.
    """
    plain = draws.float_drawn[:, 0] - draws.quant_drawn[:, 0]
    now, tail = float(draws.float_now[0] - draws.quant_now[0]), (1 - confidence) / 2
    reach = statistics.NormalDist().inv_cdf(1 - tail) * float(plain.std())
    low, high = _deciding(draws, 0, confidence)
    drawn = _interval(plain, plain, now, confidence)
    unseen = max(drawn[0] - low, high - drawn[1], 0.0)

    def decides(images: int) -> bool:
        share = draws.scenes / images
        half = reach * math.sqrt(share) + unseen * share
        return verdict_of((now - half, now + half), limit) is not Verdict.UNDECIDED

    found = smallest_sample(decides, draws.scenes)
    return None if found is None else found - draws.scenes


def _classes(
    given: Scores, found: Scores, labels: Sequence[str] | None, usual: Reals
) -> tuple[ClassScore, ...]:
    pairs = zip(given.present, given.class_values(usual), found.class_values(usual), strict=True)
    return tuple(
        ClassScore(
            label=str(index) if labels is None else labels[index],
            score_float=100 * float(one),
            score_quant=100 * float(other),
        )
        for index, one, other in pairs
    )


def _percent(fractions: Interval) -> Interval:
    return 100 * fractions[0], 100 * fractions[1]
