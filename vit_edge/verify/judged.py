"""What a verdict is about, in words: the same in terminal, JUnit, card and report."""

import dataclasses
import math
from typing import Self

from vit_edge.embedding_report import Criterion, CriterionFigures
from vit_edge.gate_report import GateReport
from vit_edge.spec import Verdict

_SHOWN = {Verdict.PASS: "Shown", Verdict.FAIL: "Refuted", Verdict.UNDECIDED: "Not settled"}


@dataclasses.dataclass(frozen=True)
class Judged:
    """A quantity that quantization changed, and how much of that is tolerated."""

    what: str
    unit: str
    """As it stands behind a number."""
    observed: float
    ci95: tuple[float, float]
    limit: float

    @classmethod
    def of(cls, report: GateReport) -> Self:
        """What a report judges."""
        evidence = report.evidence
        if evidence.embeddings is not None:
            return cls(*_of_embeddings(evidence.embeddings.deciding))
        changed, reach = 100.0 - report.agreement, evidence.disagreement_ci95
        if evidence.truth and report.drop is not None and report.drop_ci95 is not None:
            what = f"drop in {evidence.truth[0].measure.words}"
            return cls(what, " points", report.drop, report.drop_ci95, report.limit)
        if evidence.maps:
            changes = "changed boxes" if evidence.boxes else "a changed map"
            return cls(f"share of images with {changes}", " %", changed, reach, report.limit)
        if report.drop is None or report.drop_ci95 is None:
            if evidence.values is not None:
                return cls("mean absolute change", " % of the range", changed, reach, report.limit)
            return cls("share of changed predictions", " %", changed, reach, report.limit)
        lost = report.drop, report.drop_ci95, report.limit
        if evidence.values is not None:
            return cls("growth of the mean absolute error", " % of the range", *lost)
        if evidence.labels is not None:
            return cls("drop in exact matches", " points", *lost)
        return cls("drop in top-1", " points", *lost)

    @property
    def tolerated(self) -> str:
        """`1 point`."""
        unit = self.unit.removesuffix("s") if self.limit == 1 else self.unit
        return f"{self.limit:g}{unit}"

    @property
    def claim(self) -> str:
        """`a drop in top-1 of at most 1 point`."""
        return f"a {self.what} of at most {self.tolerated}"

    @property
    def found(self) -> str:
        """`0.20 points (95 % interval -0.90 to 1.30)`."""
        if math.isnan(self.observed):
            return "unknown, as the images are too few for it"
        return f"{self.observed:.2f}{self.unit} (95 % interval {self.ci95[0]:.2f} to {self.ci95[1]:.2f})"


def more_images(count: int | None) -> str:
    """How many further images it takes; None where a million would not do."""
    return (
        "not even a million images like these" if count is None else f"about {count} more images like these"
    )


_LOSSES = {
    Criterion.COSINE: "loss of mean cosine",
    Criterion.TAIL: "loss of cosine of all but 1 % of images",
    Criterion.RECALL: "share of changed nearest neighbours",
}


def _of_embeddings(found: CriterionFigures) -> tuple[str, str, float, tuple[float, float], float]:
    """The fields of a `Judged`: a criterion as a loss, so that it is at most tolerated."""
    if found.criterion.is_drop:
        known = (math.nan if found.found is None else found.found), found.ci95 or (-100.0, 100.0)
        return found.criterion.words, " points", *known, found.limit
    whole = 100.0 if found.criterion is Criterion.RECALL else 1.0
    share = 100.0 / whole
    low, high = found.ci95 or (0.0, whole)
    observed = math.nan if found.found is None else share * (whole - found.found)
    ends = share * (whole - high), share * (whole - low)
    return _LOSSES[found.criterion], " %", observed, ends, round(share * (whole - found.limit), 6)


def would_decide(report: GateReport) -> str:
    """What would decide an UNDECIDED verdict."""
    plan, expected = report.evidence.plan, report.evidence.expected
    if plan is None and expected is not None and expected.verdict is Verdict.FAIL:
        return (
            "labels: few predictions change, but by the float model's own probabilities those cost too much"
        )
    if plan is None or plan.images is None:
        return more_images(None if plan is not None else report.images_needed)
    ways = []
    if plan.fresh is not None:
        ways.append((plan.fresh, f"{plan.fresh} fresh images, judged by themselves"))
    if plan.together is not None:
        ways.append((plan.together, f"{plan.together} more, judged together with these"))
    return f"{', or '.join(way for _, way in sorted(ways))} ({100 * plan.power:g} % power)"


def failure(report: GateReport) -> str:
    """One sentence on why this is no PASS."""
    judged = Judged.of(report)
    sentence = (
        f"{report.verdict.value}: {judged.what} {judged.found} on {report.n} images, "
        f"tolerated {judged.tolerated}"
    )
    if report.verdict is Verdict.UNDECIDED:
        sentence += f"; would decide: {would_decide(report)}"
    return sentence


def sentences(report: GateReport) -> str:
    """What the images show, in full sentences."""
    judged, tolerance = Judged.of(report), report.evidence.tolerance
    text = (
        f"{_SHOWN[report.verdict]} at {100 * tolerance.confidence:g} % confidence: {judged.claim}. "
        f"On {report.n} images it is {judged.found}."
    )
    if report.verdict is Verdict.UNDECIDED:
        text += f" What would decide: {would_decide(report)}."
    return text
