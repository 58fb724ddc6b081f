"""From trials to findings: the best way of each kind that is better beyond chance and by enough."""

import dataclasses
from collections.abc import Mapping, Sequence

from vit_edge.diagnosis import Code, Figure, Finding, Severity
from vit_edge.verify.orders import Candidate
from vit_edge.verify.trials import ERROR, Trialled

CLEARLY = 0.1  # share of images by which a way must be better to make the stated one an error
_PAIRS_SHOWN = 5

_OF_INPUT = {
    Code.NORMALISATION: (
        "mean, std and scale do not fit",
        "state --mean and --std, or correct the source's own",
    ),
    Code.CHANNEL_ORDER: (
        "the colours are in another order",
        "exchange the first and the third input channel of the patch embedding, as the runtime gives RGB",
    ),
    Code.LAYOUT: (
        "the input is laid out in another way",
        "export the model again with the layout it was trained in",
    ),
    Code.INTERPOLATION: ("another filter resizes better", "state --interpolation"),
    Code.CROP: ("another resize and crop fits better", "state --resize-mode and --crop-pct"),
    Code.IMAGE_SIZE: ("another size of the input fits better", "state --image-size"),
    Code.FEW_TOKENS: (
        "the patches are too coarse for the input",
        "build at the finer size with --image-size",
    ),
    Code.POOLING: (
        "the head reads other tokens than it was trained on",
        "export the model with its own pooling",
    ),
}
_OF_GEOMETRY = (Code.INTERPOLATION, Code.CROP, Code.IMAGE_SIZE, Code.FEW_TOKENS)


@dataclasses.dataclass(frozen=True)
class Tested:
    """A trial with its adjusted p-value."""

    name: str
    trial: Trialled
    p: float

    @property
    def counts(self) -> bool:
        """Whether it is better beyond chance and by enough to matter."""
        return self.p <= ERROR and self.trial.worth_telling


def input_findings(tested: Mapping[Code, Sequence[Tested]]) -> list[Finding]:
    """At most one finding for each kind of trial."""
    found = []
    for code, several in tested.items():
        counting = [each for each in several if each.counts]
        if counting:
            found.append(_finding(code, max(counting, key=lambda each: each.trial.gain)))
    return found


def _finding(code: Code, best: Tested) -> Finding:
    what, mend = _OF_INPUT[code]
    trial = best.trial
    clear = trial.labelled and trial.gain >= CLEARLY and code not in _OF_GEOMETRY
    if trial.labelled:
        shown = f"{best.name}: {100 * trial.tried:.1f} % right, as stated {100 * trial.stated:.1f} %"
    else:
        shown = (
            f"{best.name}: answers tell {100 * trial.tried:.0f} % of what they could, as stated "
            f"{100 * trial.stated:.0f} %; without labels this is a guess, by how sure and varied answers are"
        )
    return Finding(
        code, Severity.ERROR if clear else Severity.WARNING, f"{what} ({shown})", mend, figures(best)
    )


def figures(best: Tested) -> tuple[Figure, ...]:
    """Of a trial."""
    trial = best.trial
    unit = "top-1" if trial.labelled else "information"
    return (
        Figure(f"{unit} as stated", 100 * trial.stated),
        Figure(f"{unit} as tried", 100 * trial.tried),
        Figure("agreement", 100 * trial.agreement),
        Figure("p adjusted", best.p),
    )


def order_finding(tested: Sequence[tuple[Candidate, Tested]], labels: Sequence[str] | None) -> list[Finding]:
    """The order of labels that explains the answers best, where one does."""
    counting = [(candidate, each) for candidate, each in tested if each.counts and each.trial.gain >= CLEARLY]
    if not counting:
        return []
    candidate, best = min(counting, key=lambda each: each[1].trial.p)  # of like ones, that of more images
    moved = [(answer, label) for answer, label in enumerate(candidate.order) if answer != label]
    names = [str(index) for index in range(len(candidate.order))] if labels is None else list(labels)
    shown = ", ".join(f"{answer} is {names[label]!r}" for answer, label in moved[:_PAIRS_SHOWN])
    more = f" and {len(moved) - _PAIRS_SHOWN} more" if len(moved) > _PAIRS_SHOWN else ""
    return [
        Finding(
            Code.LABEL_ORDER,
            Severity.ERROR,
            f"the labels are in another order than the model's answers, {candidate.name} ({shown}{more}): "
            f"{100 * best.trial.tried:.1f} % right then, as stated {100 * best.trial.stated:.1f} %",
            "pass --labels FILE with the names in that order; `order` in the JSON has it",
            figures(best),
            candidate.order,
        )
    ]
