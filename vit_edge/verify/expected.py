"""The drop to expect by the float model's own probabilities: no labels needed, and sharp where ties flip.

If the float model's probabilities are right, an image on which its answer a becomes b costs p(a) - p(b) on
average: nothing where nothing changed, little where two classes were nearly tied. The mean over images is the
expected drop. It is a bet on calibration. With labels the probabilities are calibrated by temperature scaling
(Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2), and the bet is tested where it
matters: on images whose margin is small enough to flip. The idea of predictions in place of labels is that of
prediction-powered inference (Angelopoulos et al., Science 382, 2023, 669-674); here labels never mix with
predictions, they have a verdict of their own, which this one does not overrule.

The interval is that of a sum of rare events of unequal weight (Fay and Feuer, Confidence intervals for
directly standardized rates: a method based on the gamma distribution, Statistics in Medicine 16, 1997,
791-801). The weight of the event not yet seen is the most that a flip can cost with as much noise as the
noisiest image has: with two classes d apart in logits, p(a) - p(b) is at most tanh(d / 2T).
"""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from vit_edge.gate_report import Calibration, ExpectedDrop
from vit_edge.spec import Tolerance, Verdict
from vit_edge.verify.arrays import Floats, Integers, row_blocks
from vit_edge.verify.gamma import gamma_quantile
from vit_edge.verify.metrics import log_softmax
from vit_edge.verify.verdict import verdict_of

Reals = NDArray[np.float64]

_FITTED = 5000  # images to which a temperature is fitted; one number needs no more
_TEMPERATURES = (0.05, 20.0)
_LEAST_TESTED = 20  # images of small margin on which calibration is tested
_REPORTED = 0.95


def expected_drop(
    float_logits: Floats,
    quant_logits: Floats,
    labels: Integers | None,
    tolerance: Tolerance,
    weights: Reals | None = None,
    *,
    sequential: bool = False,
) -> ExpectedDrop:
    """Estimate the drop from the float model's probabilities; see the module's docstring.

    Args:
        float_logits: (N, C) finite.
        quant_logits: (N, C) finite, the same images.
        labels: (N,) class indices that the temperature is fitted to and calibration tested on, or None.
        tolerance: what is accepted.
        weights: (N,) of each image, so that a scene counts as one; None for one each.
        sequential: the number of images was not fixed, for which the interval would not hold.
    """
    share = np.full(len(float_logits), 1.0) if weights is None else weights
    share = share / share.sum()
    temperature = 1.0 if labels is None else fitted_temperature(float_logits, labels)
    pairs = _pairs(float_logits, quant_logits, temperature)
    cost = np.where(pairs.changed, pairs.gap, 0.0)
    largest = math.tanh(max(float(pairs.noise.max()), 0.0) / (2.0 * temperature))
    verdict = factor = reported = None
    if not sequential:
        reported = _interval(cost, share, largest, _REPORTED)
        judged = _interval(cost, share, largest, tolerance.confidence)
        verdict = verdict_of(judged, tolerance.max_drop)
        factor = _factor(verdict, judged, tolerance.max_drop / 100.0)
    return ExpectedDrop(
        drop=100.0 * float(cost @ share),
        ci95=None if reported is None else (100.0 * reported[0], 100.0 * reported[1]),
        verdict=verdict,
        factor=factor,
        temperature=temperature,
        fitted=labels is not None,
        changed=int(np.count_nonzero(pairs.changed)),
        largest=100.0 * largest,
        calibration=None if labels is None else _calibration(pairs, labels, share),
    )


def fitted_temperature(logits: Floats, labels: Integers) -> float:
    """The temperature that makes the labels likeliest, by golden-section search over its logarithm.

    Args:
        logits: (N, C) finite; of many, 5000 that are spread evenly.
        labels: (N,) class indices.
    """
    rows = np.linspace(0, len(logits) - 1, min(len(logits), _FITTED)).astype(np.intp)
    some, own = logits[rows].astype(np.float64), labels[rows]

    def loss(log_temperature: float) -> float:
        logs = log_softmax(some / math.exp(log_temperature))
        return -float(logs[np.arange(len(own)), own].mean())

    low, high = map(math.log, _TEMPERATURES)
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    while high - low > 1e-3:
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return math.exp((low + high) / 2.0)


@dataclasses.dataclass(frozen=True, eq=False)
class _Pairs:
    """Of every image the float model's answer and its rival: what the quantized one puts first or second."""

    answer: NDArray[np.intp]
    rival: NDArray[np.intp]
    changed: NDArray[np.bool_]
    answer_p: Reals
    rival_p: Reals
    margin: Reals  # of the float logits
    noise: Reals  # by how much quantization moved the margin towards the rival

    @property
    def gap(self) -> Reals:
        """By how much the answer is likelier than its rival."""
        return self.answer_p - self.rival_p


def _pairs(float_logits: Floats, quant_logits: Floats, temperature: float) -> _Pairs:
    blocks = row_blocks(len(float_logits))
    parts = [_pairs_of(float_logits[rows], quant_logits[rows], temperature) for rows in blocks]
    fields = [field.name for field in dataclasses.fields(_Pairs)]
    return _Pairs(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


def _pairs_of(float_logits: Floats, quant_logits: Floats, temperature: float) -> _Pairs:
    rows = np.arange(len(float_logits))
    answer = float_logits.argmax(axis=1)
    without = quant_logits.astype(np.float64)
    changed = without.argmax(axis=1) != answer
    without[rows, answer] = -np.inf
    rival = without.argmax(axis=1)
    probability = np.exp(log_softmax(float_logits.astype(np.float64) / temperature))
    margin, kept = (
        logits[rows, answer].astype(np.float64) - logits[rows, rival]
        for logits in (float_logits, quant_logits)
    )
    return _Pairs(
        answer, rival, changed, probability[rows, answer], probability[rows, rival], margin, margin - kept
    )


def _interval(cost: Reals, share: Reals, largest: float, confidence: float) -> tuple[float, float]:
    tail = (1.0 - confidence) / 2.0
    mean, variance = float(cost @ share), float(cost**2 @ share**2)
    low = 0.0 if mean <= 0.0 else variance / mean * gamma_quantile(mean**2 / variance, tail)
    unseen = largest * float(share.max())
    mean, variance = mean + unseen, variance + unseen**2
    high = 0.0 if mean <= 0.0 else variance / mean * gamma_quantile(mean**2 / variance, 1.0 - tail)
    return low, min(high, 1.0)


def _factor(verdict: Verdict, interval: tuple[float, float], limit: float) -> float | None:
    if verdict is Verdict.PASS:
        return limit / interval[1] if interval[1] > 0.0 else None
    return interval[0] / limit if verdict is Verdict.FAIL else None


def _calibration(pairs: _Pairs, labels: Integers, share: Reals) -> Calibration | None:
    near = pairs.margin <= max(float(pairs.noise.max()), 0.0)
    if np.count_nonzero(near) < _LEAST_TESTED:
        near = pairs.margin <= np.sort(pairs.margin)[min(_LEAST_TESTED, len(labels)) - 1]
    if np.count_nonzero(near) < _LEAST_TESTED:
        return None
    weight = share[near] / share[near].sum()
    gap = pairs.gap[near]
    outcome = (labels == pairs.answer)[near].astype(np.float64) - (labels == pairs.rival)[near]
    variance = (pairs.answer_p + pairs.rival_p)[near] - gap**2
    spread = math.sqrt(max(float(variance @ weight**2), 1e-300))
    claimed, found = float(gap @ weight), float(outcome @ weight)
    p_value = math.erfc(abs(found - claimed) / spread / math.sqrt(2.0))
    return Calibration(int(np.count_nonzero(near)), 100.0 * claimed, 100.0 * found, p_value)
