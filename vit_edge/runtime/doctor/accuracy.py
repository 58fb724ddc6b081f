"""A float accuracy that no quantization explains: below what is expected, a guess or a linear model."""

import numpy as np
from numpy.typing import NDArray

from vit_edge.diagnosis import Code, Figure, Finding, Severity
from vit_edge.verify.arrays import Booleans, Floats, Integers
from vit_edge.verify.baseline import linear_right
from vit_edge.verify.paired import mcnemar_one_sided
from vit_edge.verify.proportion import clopper_pearson

LEAST_IMAGES = 30  # on fewer a good model may look like a guess
_CONFIDENCE = 0.95
_SUSPECT = "suspect the weights, the labels or the preprocessing, not the quantization"


def below_expected(right: Booleans, expected: float) -> list[Finding]:
    """Whether the accuracy is demonstrably (at 95 %) below what is expected, in percent."""
    share, (low, high) = _share(right)
    if high >= expected:
        return []
    return [
        Finding(
            Code.BELOW_EXPECTED,
            Severity.ERROR,
            f"the float model is right on {share:.1f} % of {len(right)} images (95 % interval {low:.1f} to "
            f"{high:.1f}), where {expected:g} % are expected",
            _SUSPECT,
            (Figure("top-1", share), Figure("at most", high), Figure("expected", expected)),
        )
    ]


def guessing(logits: Floats, truth: Integers) -> list[Finding]:
    """Whether the model is not demonstrably (at 95 %) better than chance among its classes."""
    right = logits.argmax(axis=1) == truth
    share, (low, _) = _share(right)
    chance = 100.0 / logits.shape[1]
    if low > chance:
        return []
    return [
        Finding(
            Code.GUESSING,
            Severity.ERROR,
            f"the float model is right on {share:.1f} % of {len(right)} images, no better than guessing "
            f"among {logits.shape[1]} classes",
            _SUSPECT,
            (Figure("top-1", share), Figure("at least", low), Figure("chance", chance)),
        )
    ]


class PixelBaseline:
    """A linear model on pixels beside the float model, on the same images.

    Args:
        small: (N, S, S, 3) uint8.
        logits: (N, C) of the float model.
        truth: (N,) class indices.
    """

    def __init__(self, small: NDArray[np.uint8], logits: Floats, truth: Integers) -> None:
        self.right = logits.argmax(axis=1) == truth
        self.linear = linear_right(small, truth)
        lost = int(np.count_nonzero(self.linear & ~self.right))
        won = int(np.count_nonzero(self.right & ~self.linear))
        self.p = mcnemar_one_sided(lost, won)  # of "the float model is no worse"

    def findings(self, p_adjusted: float, error: float) -> list[Finding]:
        """Worse beyond chance is an error; no better, where there is room, is a warning."""
        own, other = _share(self.right)[0], _share(self.linear)[0]
        worse = p_adjusted <= error
        if not worse and (own > other or bool(self.right.all())):
            return []
        return [
            Finding(
                Code.NO_BETTER_THAN_PIXELS,
                Severity.ERROR if worse else Severity.WARNING,
                f"the float model is right on {own:.1f} % of {len(self.right)} images, a linear model on "
                f"their pixels on {other:.1f} % (five-fold cross-validation)",
                _SUSPECT,
                (Figure("top-1", own), Figure("linear model", other), Figure("p adjusted", p_adjusted)),
            )
        ]


def _share(right: Booleans) -> tuple[float, tuple[float, float]]:
    """Percent that is right, and its interval."""
    count = int(np.count_nonzero(right))
    low, high = clopper_pearson(count, len(right), _CONFIDENCE)
    return 100.0 * count / len(right), (100.0 * low, 100.0 * high)
