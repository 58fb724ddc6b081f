"""The gate for models that give maps: on how many images a map is another one than the float model's.

Of an image's map three things are measured against the float model's: the correlation of its numbers, their
mean absolute difference in percent of the range that the float model's numbers span over all images, and,
of several channels, how far the places where each channel is the largest overlap (mean intersection over
union of the classes that either model shows, Everingham et al. 2010). Of a detector it is the boxes alone
(`verify.boxes`). An image has changed where one of them
lies beyond its limit. That is a yes or no per image as a changed prediction is, so the same intervals, tests
and plans hold; each measure has its own share of images beyond its limit, with interval and verdict, too.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vit_edge.errors import DatasetError, ModelError
from vit_edge.gate_report import GateReport, MapMeasure, Measure
from vit_edge.spec import MapLimits, Tolerance
from vit_edge.verify.answers import as_choice
from vit_edge.verify.arrays import Booleans, Floats
from vit_edge.verify.bounded import mean_interval, per_scene
from vit_edge.verify.boxes import SHOWN
from vit_edge.verify.copies import Scenes
from vit_edge.verify.gate import REPORTED_CONFIDENCE, judge
from vit_edge.verify.verdict import Interval
from vit_edge.verify.words import sqnr_db

Reals = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class MapChanges:
    """What one output of a model is like against the float model's, image by image."""

    output: str
    correlation: Reals
    """(N,) -1 to 1; of a map without any contrast 1 where it is the same, else 0."""
    difference: Reals
    """(N,) mean absolute, in the map's own units."""
    overlap: Reals | None
    """(N,) mean intersection over union of the arg-max, 0 to 1; None of a single channel."""
    signal: Reals
    """(N,) sum of squares of the float model's numbers."""
    noise: Reals
    """(N,) the same of the difference."""
    low: Reals
    """(N,) the float model's smallest number."""
    high: Reals
    """(N,) and its largest."""
    boxes: Reals | None = None
    """(N,) of a detector: how far shown boxes agree, 0 to 1, which alone is then judged."""
    shown: Reals | None = None
    """(N,) of a detector: how many boxes the float model shows."""

    def at(self, rows: NDArray[np.intp]) -> Self:
        """Of some of the images."""
        overlap = None if self.overlap is None else self.overlap[rows]
        boxes, shown = (None if each is None else each[rows] for each in (self.boxes, self.shown))
        return dataclasses.replace(
            self,
            correlation=self.correlation[rows],
            difference=self.difference[rows],
            overlap=overlap,
            signal=self.signal[rows],
            noise=self.noise[rows],
            low=self.low[rows],
            high=self.high[rows],
            boxes=boxes,
            shown=shown,
        )

    def joined(self, other: Self) -> Self:
        """Of the images of both, these first."""
        return dataclasses.replace(
            self,
            correlation=np.concatenate([self.correlation, other.correlation]),
            difference=np.concatenate([self.difference, other.difference]),
            overlap=_both(self.overlap, other.overlap),
            signal=np.concatenate([self.signal, other.signal]),
            noise=np.concatenate([self.noise, other.noise]),
            low=np.concatenate([self.low, other.low]),
            high=np.concatenate([self.high, other.high]),
            boxes=_both(self.boxes, other.boxes),
            shown=_both(self.shown, other.shown),
        )


def _both(one: Reals | None, other: Reals | None) -> Reals | None:
    return None if one is None or other is None else np.concatenate([one, other])


def map_changes(output: str, given: Floats, found: Floats) -> MapChanges:
    """Compare one output of two models on a batch of images.

    Args:
        output: its name.
        given: the float model's, (N, ...) floating point, usually (N, channels, rows, columns).
        found: the other's, of the same shape.

    Raises:
        ModelError: shapes differ, or a number is not finite.
    """
    if given.shape != found.shape or given.ndim < 2 or not given.size:
        raise ModelError(f"maps {output} of shapes {given.shape} and {found.shape} cannot be compared")
    if not (np.isfinite(given).all() and np.isfinite(found).all()):
        raise ModelError(f"a model gives {output} that is not finite; check the export")
    exact, other = (each.reshape(len(each), -1).astype(np.float64) for each in (given, found))
    several = given.ndim == 4 and given.shape[1] > 1
    return MapChanges(
        output,
        _correlation(exact, other),
        np.abs(other - exact).mean(axis=1),
        _overlap(given.argmax(axis=1), found.argmax(axis=1), given.shape[1]) if several else None,
        (exact**2).sum(axis=1),
        ((other - exact) ** 2).sum(axis=1),
        exact.min(axis=1),
        exact.max(axis=1),
    )


def judge_maps(
    changes: Sequence[MapChanges],
    tolerance: Tolerance,
    *,
    sequential: bool = False,
    scenes: Scenes | None = None,
) -> GateReport:
    """Judge one model's maps against the float model's; the figures of each output are in `evidence.maps`.

    Args:
        changes: of each output, all of the same images.
        tolerance: `maps` says what of one image is accepted, `max_changed` on how many images it may be more.
        sequential: as for `judge`.
        scenes: as for `judge`.

    Raises:
        DatasetError: no image, or maps that are the same everywhere on all images.
    """
    measured = [each for change in changes for each in _measured(change, tolerance.maps)]
    kept = np.logical_and.reduce([~each.beyond for each in measured])
    if not len(kept):
        raise DatasetError("there are no maps to judge; give at least one image")
    always = np.ones(len(kept), np.bool_)

    def judged(same: Booleans) -> GateReport:
        report = judge(
            as_choice(always), as_choice(same), None, tolerance, sequential=sequential, scenes=scenes
        )
        # the bet on probabilities is that of single labels
        return dataclasses.replace(
            report, evidence=dataclasses.replace(report.evidence, mean_kl=None, expected=None)
        )

    rows = tuple(_row(each, judged(~each.beyond), scenes) for each in measured)
    report = judged(kept)
    ratio = min(sqnr_db(float(each.signal.sum()), float(each.noise.sum())) for each in changes)
    evidence = dataclasses.replace(report.evidence, maps=rows)
    return dataclasses.replace(report, logit_sqnr_db=ratio, evidence=evidence)


def changed_maps(
    changes: Sequence[MapChanges], limits: MapLimits
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Which images kept their maps, as logits of two classes of either model, see `as_choice`.

    Returns:
        (N, 2) each.
    """
    kept = np.logical_and.reduce([~each.beyond for change in changes for each in _measured(change, limits)])
    return as_choice(np.ones_like(kept)), as_choice(kept)


@dataclasses.dataclass(frozen=True, eq=False)
class _Measured:
    output: str
    measure: Measure
    values: Reals  # (N,), in the units that are shown
    limit: float
    beyond: Booleans
    spread: float  # what a value of 1 stands for in those units, so that an interval for bounded values holds


def _measured(change: MapChanges, limits: MapLimits) -> list[_Measured]:
    if change.boxes is not None and change.shown is not None:
        if not change.shown.any():
            raise DatasetError(
                f"the float model shows no box of {SHOWN:g} and more on any image, so there is nothing to "
                "keep; give images with objects on them, or check the model"
            )
        beyond = change.boxes < limits.min_boxes
        return [_Measured(change.output, Measure.BOXES, change.boxes, limits.min_boxes, beyond, 1.0)]
    span = float(change.high.max() - change.low.min()) if change.high.size else 0.0
    if change.high.size and not (span > 0 and math.isfinite(span)):
        raise DatasetError(
            f"{change.output} is the same everywhere on all images, so there is no range to measure its "
            "change by; give images that differ in it, or check the model"
        )
    share = 100.0 * change.difference / (span or 1.0)
    found = [
        _Measured(
            change.output,
            Measure.CORRELATION,
            change.correlation,
            limits.min_correlation,
            change.correlation < limits.min_correlation,
            1.0,
        ),
        _Measured(
            change.output,
            Measure.DIFFERENCE,
            share,
            limits.max_difference,
            share > limits.max_difference,
            100.0,
        ),
    ]
    if change.overlap is not None:
        beyond = change.overlap < limits.min_overlap
        found.append(
            _Measured(change.output, Measure.OVERLAP, change.overlap, limits.min_overlap, beyond, 1.0)
        )
    return found


def _row(found: _Measured, report: GateReport, scenes: Scenes | None) -> MapMeasure:
    own = per_scene(np.clip(found.values / found.spread, -1.0, 1.0), scenes)
    low, high = mean_interval(own, REPORTED_CONFIDENCE)
    worst = found.values.max() if found.measure is Measure.DIFFERENCE else found.values.min()
    interval: Interval = (low * found.spread, high * found.spread)
    return MapMeasure(
        output=found.output,
        measure=found.measure,
        mean=float(own.mean()) * found.spread,
        mean_ci95=interval,
        worst=float(worst),
        limit=found.limit,
        beyond=100.0 - report.agreement,
        beyond_ci95=report.evidence.disagreement_ci95,
        verdict=report.verdict,
    )


def _correlation(exact: Reals, other: Reals) -> Reals:
    """(N,) after Pearson."""
    centred, moved = exact - exact.mean(axis=1, keepdims=True), other - other.mean(axis=1, keepdims=True)
    lengths = np.sqrt((centred**2).sum(axis=1)), np.sqrt((moved**2).sum(axis=1))
    scale = np.maximum(np.abs(exact).max(axis=1), 1e-30) * math.sqrt(exact.shape[1])
    flat = (lengths[0] <= 1e-6 * scale) | (lengths[1] <= 1e-6 * scale)
    product = np.where(flat, 1.0, lengths[0] * lengths[1])
    found = np.clip((centred * moved).sum(axis=1) / product, -1.0, 1.0)
    same = np.abs(other - exact).max(axis=1) <= 1e-5 * np.maximum(np.abs(exact).max(axis=1), 1e-30)
    return np.where(flat, np.where(same, 1.0, 0.0), found)


def _overlap(given: NDArray[np.intp], found: NDArray[np.intp], channels: int) -> Reals:
    """(N,) mean over the channels that either shows of intersection over union."""
    means = []
    for one, other in zip(given.reshape(len(given), -1), found.reshape(len(found), -1), strict=True):
        both = np.bincount(one[one == other], minlength=channels)
        either = np.bincount(one, minlength=channels) + np.bincount(other, minlength=channels) - both
        shown = either > 0
        means.append(float((both[shown] / either[shown]).mean()))
    return np.asarray(means, np.float64)
