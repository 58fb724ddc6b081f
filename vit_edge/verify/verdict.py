"""From counts to a verdict, over a fixed number of images or looking on until it is reached."""

import dataclasses
from collections.abc import Callable

import numpy as np

from vit_edge.spec import Tolerance, Verdict
from vit_edge.verify.arrays import Floats, Integers
from vit_edge.verify.metrics import same_prediction, top_k_correct
from vit_edge.verify.proportion import clopper_pearson
from vit_edge.verify.sequential import drop_sequence, share_sequence
from vit_edge.verify.unconditional import exact_interval

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Method:
    """How counts become intervals, in fractions; counts need not be whole."""

    drop_interval: Callable[[float, float, float, float], Interval]  # of (lost, gained, n, confidence)
    share_interval: Callable[[float, float, float], Interval]  # of (successes, trials, confidence)


FIXED = Method(exact_interval, clopper_pearson)  # the number of images was set beforehand
SEQUENTIAL = Method(drop_sequence, share_sequence)  # holds after every image


def verdict_of(interval: Interval, limit: float) -> Verdict:
    """PASS if all of the interval is tolerated, FAIL if none of it is, else UNDECIDED.

    Args:
        interval: (lower, upper) as fractions.
        limit: what is accepted, in points.
    """
    lower, upper = interval
    if 100.0 * upper <= limit:
        return Verdict.PASS
    return Verdict.FAIL if 100.0 * lower > limit else Verdict.UNDECIDED


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
            return verdict_of(interval, self._tolerance.max_changed)
        float_right, quant_right = (top_k_correct(each, labels, 1) for each in (float_logits, quant_logits))
        self._worse += int(np.count_nonzero(float_right & ~quant_right))
        self._better += int(np.count_nonzero(~float_right & quant_right))
        interval = SEQUENTIAL.drop_interval(self._worse, self._better, self._n, self._tolerance.confidence)
        return verdict_of(interval, self._tolerance.max_drop)
