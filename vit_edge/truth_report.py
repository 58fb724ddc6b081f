"""The record of how right two models are by true boxes or masks, and what quantization cost of that."""

import dataclasses
import enum

from vit_edge.spec import Verdict


class TruthMeasure(enum.Enum):
    """By what maps or boxes are compared with what is true."""

    MAP = "map_50_95"  # mean average precision, mean over ten thresholds of overlap
    MAP_50 = "map_50"  # the same at an intersection over union of 0.5
    MIOU = "miou"  # mean intersection over union of the pixels of each class

    @property
    def words(self) -> str:
        """What the field calls it."""
        return _TRUTH_WORDS[self]


_TRUTH_WORDS = {
    TruthMeasure.MAP: "mAP@0.5:0.95",
    TruthMeasure.MAP_50: "mAP@0.5",
    TruthMeasure.MIOU: "mIoU",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class, in percent, by the first measure."""

    label: str
    score_float: float
    score_quant: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class TruthScore:
    """Both models against truth by one measure, in percent, and what that shows; see `verify.truth`."""

    measure: TruthMeasure
    score_float: float
    score_float_ci95: tuple[float, float]
    """By bootstrap over images."""
    score_quant: float
    score_quant_ci95: tuple[float, float]
    drop: float
    """Points."""
    drop_bootstrap95: tuple[float, float]
    """By bootstrap over images, of both models together: as far as these images show all that there is."""
    drop_ci95: tuple[float, float]
    """The same with what images of a kind that was not seen could cost."""
    verdict: Verdict
    """On the tolerated drop, by the latter."""
    classes: tuple[ClassScore, ...] = ()
    """That truth shows, of the first measure alone."""
