"""Other ways to feed or to read a model against the stated one: which are better, beyond chance.

With labels an image counts as right or wrong, and a trial is tested by the exact one-sided McNemar test.
Without labels nothing is right: what can be measured is how sure and how varied the answers are. Each image's
part of the mutual information between image and answer, KL(p || mean p) in nats, is compared by the exact
sign test. A trial whose answers are only sharper, which contrast alone can do, keeps most answers and is no
finding.

Many trials are many chances to err, so their p-values are adjusted together after Holm.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from vit_edge.arrays import Float64
from vit_edge.verify.arrays import Floats, Integers
from vit_edge.verify.classes import holm
from vit_edge.verify.metrics import log_softmax, top_k_correct
from vit_edge.verify.paired import mcnemar_one_sided

ERROR = 0.01  # of all tests together
LEAST_GAIN = 0.02  # share of images; less is no finding, however sure
LEAST_INFORMATION = 0.1  # of what the classes could tell; more sharpness alone hardly reaches it
MOST_AGREEMENT = 0.9  # without labels; a trial that keeps more answers is only sharper


@dataclasses.dataclass(frozen=True, eq=False)
class Scored:
    """What is known of the answers to N images."""

    score: Float64
    """(N,): right or not, as 1 or 0; or nats of information."""
    answers: Integers
    """(N,) class indices."""
    labelled: bool
    most: float = 1.0
    """That the mean of the scores could be."""


@dataclasses.dataclass(frozen=True)
class Trialled:
    """A trial against the stated way, on the same N images."""

    stated: float
    """Mean score of the stated way, as a share of the most there could be."""
    tried: float
    p: float
    """One-sided, of "the trial is no better"; not adjusted."""
    agreement: float
    """Share of images with the same answer."""
    labelled: bool

    @property
    def gain(self) -> float:
        """Share by which the trial is better."""
        return self.tried - self.stated

    @property
    def worth_telling(self) -> bool:
        """Whether the gain is large enough to matter, be it beyond chance or not."""
        if self.labelled:
            return self.gain >= LEAST_GAIN
        return self.gain >= LEAST_INFORMATION and self.agreement <= MOST_AGREEMENT


def scored(logits: Floats, labels: Integers | None) -> Scored:
    """Score answers (N, C), with labels (N,) where there are any."""
    answers = logits.argmax(axis=1)
    if labels is not None:
        return Scored(top_k_correct(logits, labels, 1).astype(np.float64), answers, True)
    logarithms = log_softmax(logits)
    mean = np.log(np.exp(logarithms).mean(axis=0) + 1e-300)
    information = (np.exp(logarithms) * (logarithms - mean)).sum(axis=1)
    return Scored(information, answers, False, math.log(max(2, min(logits.shape))))


def against(stated: Scored, tried: Scored) -> Trialled:
    """Compare two ways on the same images."""
    better = int(np.count_nonzero(tried.score > stated.score))
    worse = int(np.count_nonzero(tried.score < stated.score))
    return Trialled(
        stated=float(stated.score.mean()) / stated.most,
        tried=float(tried.score.mean()) / tried.most,
        p=mcnemar_one_sided(better, worse),
        agreement=float((stated.answers == tried.answers).mean()),
        labelled=stated.labelled,
    )


def adjusted(p_values: Sequence[float]) -> list[float]:
    """After Holm, for all tests of an examination."""
    return [float(p) for p in holm(np.asarray(p_values, np.float64))] if p_values else []
