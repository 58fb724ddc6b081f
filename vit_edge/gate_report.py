"""The record of the proof that the INT8 model answers as the float one does: verdict, figures, evidence."""

import dataclasses
import enum
from typing import Annotated, Any

from vit_edge import plain
from vit_edge.embedding_report import EmbeddingReport
from vit_edge.plain import Mark
from vit_edge.spec import Tolerance, Verdict
from vit_edge.truth_report import TruthScore

SIGNIFICANCE = 0.05  # of all classes together


@dataclasses.dataclass(frozen=True)
class ClassDrop:
    """One class on which the quantized model is less accurate."""

    label: str
    n: int
    """Images of this class."""
    drop: float
    """Points of top-1."""
    p_adjusted: float | None
    """None where the images were not of a fixed number."""

    @property
    def significant(self) -> bool:
        """Whether the loss is more than chance, at 5 % for all classes together."""
        return self.p_adjusted is not None and self.p_adjusted <= SIGNIFICANCE


@dataclasses.dataclass(frozen=True)
class Mix:
    """How the images are spread over the classes that have any; an accuracy speaks of this mix."""

    classes: int
    """That have images."""
    fewest: int
    """Images of one class."""
    most: int
    balanced_drop: float
    """Points of top-1, every class weighed alike."""

    @property
    def even(self) -> bool:
        """Whether no class weighs more than another, but for a rounding of one image."""
        return self.most - self.fewest <= 1


class PlanKind(enum.Enum):
    """Which images a plan asks for."""

    TOGETHER = "together"  # judged together with those seen, corrected for looking again
    FRESH = "fresh"  # judged by themselves


@dataclasses.dataclass(frozen=True)
class Plan:
    """Images that decide with a probability of `power`; None where not even a million would."""

    power: float
    together: int | None
    """Further ones, to be judged together with those seen."""
    fresh: int | None
    """Of a set that shares none with those seen."""
    kind: PlanKind | None = dataclasses.field(init=False)
    """The cheaper way."""

    def __post_init__(self) -> None:
        """Choose."""
        ways = [(self.together, PlanKind.TOGETHER), (self.fresh, PlanKind.FRESH)]
        known = [(images, way) for images, way in ways if images is not None]
        object.__setattr__(self, "kind", min(known, key=lambda each: each[0])[1] if known else None)

    @property
    def images(self) -> int | None:
        """What the cheaper way takes."""
        return min((each for each in (self.together, self.fresh) if each is not None), default=None)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Test of the assumption on the images whose answer could flip."""

    images: int
    claimed: float
    """Points by which the float model's answer should be right more often than its rival."""
    found: float
    """The same by the labels."""
    p_value: float
    """Two-sided, of "the probabilities are right there"."""


@dataclasses.dataclass(frozen=True)
class ExpectedDrop:
    """What the float model's probabilities say about the drop, in points of top-1."""

    drop: float
    ci95: tuple[float, float] | None
    """None where the number of images was not fixed."""
    verdict: Verdict | None
    """On the tolerated drop, under the assumption that the probabilities are right."""
    factor: float | None
    """By which the changed images may cost more (PASS) or less (FAIL) than is claimed."""
    temperature: float
    fitted: bool
    """To labels; if not, the probabilities are taken as they are."""
    changed: int
    """Images."""
    largest: float
    """Points that one changed image can cost, with as much noise as was seen."""
    calibration: Calibration | None = None
    """None without labels, or with too few images of small margin."""


@dataclasses.dataclass(frozen=True)
class LabelFigures:
    """Of models that give several labels at once, in percent; see `verify.multi_label`."""

    exact_float: float
    """Images with all labels right."""
    exact_quant: float
    accuracy_float: float
    """Of single labels."""
    accuracy_quant: float
    accuracy_drop_ci95: tuple[float, float]
    f1_micro_float: float
    f1_micro_quant: float
    f1_macro_float: float
    f1_macro_quant: float


@dataclasses.dataclass(frozen=True)
class ValueFigures:
    """Of models that give values, in the values' own units; see `verify.values`."""

    mean_change: float
    largest_change: float
    spans: tuple[float, ...]
    """Of each value, what its percentages refer to."""
    error_float: float | None = None
    """Mean absolute error; None without true values."""
    error_quant: float | None = None


class Measure(enum.Enum):
    """By what two maps of one image are compared."""

    CORRELATION = "correlation"  # of their numbers, after Pearson; 1 where they are the same
    DIFFERENCE = "difference"  # mean absolute, in percent of the range that the float model's maps span
    BOXES = "boxes"  # share of the boxes that either model shows that are matched; 1 where the same
    OVERLAP = "overlap"  # mean intersection over union of where each channel is the largest; 1 where the same


@dataclasses.dataclass(frozen=True)
class MapMeasure:
    """One measure of one output of a model of maps, over all images; see `verify.maps`."""

    output: str
    measure: Measure
    mean: float
    """Over images."""
    mean_ci95: tuple[float, float]
    worst: float
    """Of one image."""
    limit: float
    """What is accepted of one image."""
    beyond: float
    """Percent of images that lie beyond it."""
    beyond_ci95: tuple[float, float]
    verdict: Verdict
    """On the tolerated share of such images."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What stands behind a verdict beyond the stable keys; None where it takes labels and there are none."""

    tolerance: Tolerance
    sequential: bool
    """Looked on until decided; intervals then hold after every number of images."""
    disagreement_ci95: tuple[float, float]
    """Percent of images on which the predictions differ."""
    mean_kl: float | None
    """Nats; None of values."""
    only_float_right: int | None = None
    """Images."""
    only_quant_right: int | None = None
    mcnemar_p: float | None = None
    """Of "no difference in accuracy"; None if sequential: it would not hold."""
    significant_classes: tuple[ClassDrop, ...] = ()
    """Worse by more than chance, see `verify.classes`."""
    ece_float: float | None = None
    """Percent."""
    ece_quant: float | None = None
    plan: Plan | None = None
    """How many images would decide; None where they do already."""
    scenes: int | None = None
    """That count as one image each; None where every image is one of its own."""
    expected: ExpectedDrop | None = None
    """By the float model's own probabilities."""
    mix: Mix | None = None
    """Of the classes' images; None without labels."""
    contradicted: bool = False
    """Labels contradict the expected drop: their intervals share nothing."""
    labels: Annotated[LabelFigures | None, Mark.OMITTED] = None
    """Of a multi-label model with labels."""
    values: Annotated[ValueFigures | None, Mark.OMITTED] = None
    """Of a regression."""
    maps: Annotated[tuple[MapMeasure, ...], Mark.OMITTED] = ()
    """Of a model of maps: each measure of each output."""
    truth: Annotated[tuple[TruthScore, ...], Mark.OMITTED] = ()
    """Of a model of maps or boxes with truth: by each measure, of which the first decides."""
    embeddings: Annotated[EmbeddingReport | None, Mark.OMITTED] = None
    """Of an embedding model: its own verdict, by every criterion."""

    @property
    def boxes(self) -> bool:
        """Whether the maps are those of a detector, judged by its boxes."""
        return any(each.measure is Measure.BOXES for each in self.maps)


@dataclasses.dataclass(frozen=True)
class GateReport:
    """The verdict and what it rests on, in percent, points of top-1 and dB.

    Without labels `top1_*`, `top5_*`, `drop` and `drop_ci95` are None; `top5_*` are also None for a model of
    five classes or fewer, where every answer is in the top five.
    """

    n: int
    top1_float: float | None
    top1_quant: float | None
    top5_float: float | None
    top5_quant: float | None
    drop: float | None
    drop_ci95: tuple[float, float] | None
    agreement: float
    logit_sqnr_db: Annotated[float, Mark.INFINITE]
    """Infinite where all logits are identical."""
    verdict: Verdict
    images_needed: int | None
    """Of `evidence.plan`; 0 where decided, None where a million would not do."""
    worst_classes: tuple[ClassDrop, ...]
    evidence: Evidence

    @property
    def limit(self) -> float:
        """What is tolerated of `lost`."""
        tolerance = self.evidence.tolerance
        return tolerance.max_changed if self.drop is None else tolerance.max_drop

    @property
    def lost(self) -> float:
        """Points of top-1 lost, or without labels the percentage of predictions that changed."""
        return 100.0 - self.agreement if self.drop is None else self.drop

    @property
    def plausible(self) -> bool:
        """Whether the estimates, uncertain as they are, lie within what is tolerated."""
        if self.evidence.embeddings is not None:
            return all(each.plausible for each in self.evidence.embeddings.criteria)
        expected, tolerance = self.evidence.expected, self.evidence.tolerance
        costly = self.drop is None and expected is not None and expected.drop > tolerance.max_drop
        return self.lost <= self.limit and not costly

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `vit-edge compare --json`, and after them `evidence`, the fields of `Evidence`.

        Of these, `labels`, `values`, `maps`, `truth` and `embeddings` are left out where there are none.
        `logit_sqnr_db` is null where the logits are identical, as JSON has no infinity. `images_needed` is 0
        after PASS and FAIL, and null where not even a million images would decide; `evidence.plan` says which
        images it means.
        """
        raw: dict[str, Any] = plain.of(self)
        return raw
