"""From counts to a verdict, over a fixed number of images or looking on until it is reached."""

import dataclasses
from collections.abc import Callable

import numpy as np

from vit_edge.spec import Tolerance, Verdict
from vit_edge.verify.arrays import Floats, Integers
from vit_edge.verify.metrics import same_prediction, top_k_correct
from vit_edge.verify.paired import PairedCounts, score_interval
from vit_edge.verify.proportion import clopper_pearson, smallest_sample
from vit_edge.verify.sequential import drop_sequence, share_sequence

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Method:
    """How counts become intervals, in fractions; counts need not be whole."""

    drop_interval: Callable[[float, float, float, float], Interval]  # of (lost, gained, n, confidence)
    share_interval: Callable[[float, float, float], Interval]  # of (successes, trials, confidence)


FIXED = Method(score_interval, clopper_pearson)  # the number of images was set beforehand
SEQUENTIAL = Method(drop_sequence, share_sequence)  # holds after every image


def verdict_of(interval: Interval, tolerance: Tolerance) -> Verdict:
    """PASS if all of the interval is tolerated, FAIL if none of it is, else UNDECIDED.

    Args:
        interval: (lower, upper) as fractions.
        tolerance: what is accepted, in points.
    """
    lower, upper = interval
    if 100.0 * upper <= tolerance.max_drop:
        return Verdict.PASS
    return Verdict.FAIL if 100.0 * lower > tolerance.max_drop else Verdict.UNDECIDED


def images_needed(counts: PairedCounts, tolerance: Tolerance, method: Method = FIXED) -> int | None:
    """How many further labelled images would decide, if they behaved as those seen so far.

    The observed rates are kept and the interval is recomputed for ever more images. With few discordant
    images the rates themselves are uncertain, so this is a plan and not a promise.

    Returns:
        0 where the images seen decide already; None where no number would, as the observed drop is
        (nearly) the tolerated one.
    """

    def interval(images: int) -> Interval:
        lost, gained = (
            count * images / counts.n for count in (counts.only_float_right, counts.only_quant_right)
        )
        return method.drop_interval(lost, gained, images, tolerance.confidence)

    return _further_images(interval, counts.n, tolerance)


def images_needed_unlabelled(
    disagreeing: int, n: int, tolerance: Tolerance, method: Method = FIXED
) -> int | None:
    """How many further unlabelled images would decide, if they disagreed as often as those seen so far.

    Returns:
        0 where the images seen decide already; None where no number would.
    """

    def interval(images: int) -> Interval:
        return method.share_interval(disagreeing * images / n, images, tolerance.confidence)

    return _further_images(interval, n, tolerance)


def _further_images(interval: Callable[[int], Interval], n: int, tolerance: Tolerance) -> int | None:
    def decides(images: int) -> bool:
        return verdict_of(interval(images), tolerance) is not Verdict.UNDECIDED

    if decides(n):
        return 0
    total = smallest_sample(decides, n)
    return None if total is None else total - n


class SequentialGate:
    """Takes images batch by batch, in random order, and says after each what they can show by then."""

    def __init__(self, tolerance: Tolerance) -> None:
        self._tolerance = tolerance
        self._n = 0
        self._worse = 0  # labelled: only the float model is right; unlabelled: the predictions differ
        self._better = 0  # labelled: only the quantized model is right

    def add(self, float_logits: Floats, quant_logits: Floats, labels: Integers | None) -> Verdict:
        """The verdict on all images so far.

        Args:
            float_logits: (N, C) floating point, of the next images.
            quant_logits: (N, C) floating point.
            labels: (N,) integer class indices, or None for a judgement of agreement; either every time.

        Raises:
            DatasetError: no image, or labels that do not fit.
            ModelError: logits that are not finite or of different shapes.
        """
        self._n += len(float_logits)
        if labels is None:
            self._worse += int(np.count_nonzero(~same_prediction(float_logits, quant_logits)))
            interval = SEQUENTIAL.share_interval(self._worse, self._n, self._tolerance.confidence)
            return verdict_of(interval, self._tolerance)
        float_right, quant_right = (top_k_correct(each, labels, 1) for each in (float_logits, quant_logits))
        self._worse += int(np.count_nonzero(float_right & ~quant_right))
        self._better += int(np.count_nonzero(~float_right & quant_right))
        interval = SEQUENTIAL.drop_interval(self._worse, self._better, self._n, self._tolerance.confidence)
        return verdict_of(interval, self._tolerance)
