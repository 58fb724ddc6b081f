"""What the pair sums of an attention's integer products would lose in 16 bits, on real images.

Both operands of these products are activations. Taking the worst of each at once would halve the steps of
keys and values everywhere, for sums that hardly an image comes near; so the sums themselves are looked at.
Larger steps make every value rounder, and what they prevent is rare: the largest sum of a few images is an
outlier among tens of millions. As with a range that clips, it is the errors of both that are weighed.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from vit_edge.arrays import Array, Float64, Pixels
from vit_edge.host.affine import Affine
from vit_edge.host.lower.model import LowerSettings, lower_taps
from vit_edge.host.plan import EXPONENTIALS, FLOAT, AttentionPlan
from vit_edge.host.quantize.observe import load
from vit_edge.host.quantize.saturation import CODE, LIMIT, outermost
from vit_edge.host.quantize.weights import STEPS
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.progress import Step

WORST = 2 * CODE * STEPS / LIMIT  # with steps so many times as large no sum can pass the limit
GROWTHS = np.append(np.arange(1.0, WORST, 0.05), WORST)  # of the steps of keys or values
SHARE = 0.02  # that saturation may add to the error of rounding: other images reach further than these


@dataclasses.dataclass(frozen=True, eq=False)
class Loss:
    """Squared errors of an integer product of two activations, in steps of the first times the second."""

    saturated: Float64
    """(len(GROWTHS),) what pair sums lose beyond int16, with steps of the second so many times as large."""
    rounded: float
    """What rounding the second adds, with its steps as they are."""

    @classmethod
    def none(cls) -> "Loss":
        """Of no image."""
        return cls(np.zeros(len(GROWTHS)), 0.0)

    def __add__(self, other: "Loss") -> "Loss":
        return Loss(self.saturated + other.saturated, self.rounded + other.rounded)

    @property
    def growth(self) -> float:
        """The least with which saturation hardly adds to what rounding does."""
        borne = self.saturated <= SHARE * self.rounded * np.square(GROWTHS)
        return float(GROWTHS[int(borne.argmax())])  # the last of them is always borne


@dataclasses.dataclass(frozen=True, eq=False)
class AttentionReach:
    """How far the sums of two neighbouring products reach beyond int16, by what it costs.

    Queries and probabilities count in their codes, keys and values in steps of their scales, not rounded.
    """

    keys: Loss = dataclasses.field(default_factory=Loss.none)
    """Of queries with keys."""
    values: Loss = dataclasses.field(default_factory=Loss.none)
    """Of probabilities with values, where one range serves all probabilities."""
    row_values: Loss = dataclasses.field(default_factory=Loss.none)
    """Of exp(score - row maximum) with values."""

    def __add__(self, other: "AttentionReach") -> "AttentionReach":
        return AttentionReach(
            self.keys + other.keys, self.values + other.values, self.row_values + other.row_values
        )


def attention_reaches(
    canonical: Canonical,
    settings: LowerSettings,
    plans: Mapping[str, AttentionPlan],
    images: Sequence[Pixels],
    progress: Step,
) -> dict[str, AttentionReach]:
    """The reach of every attention, in the float model.

    Args:
        canonical: the folded model.
        settings: fixed batch 1, `pixels` input.
        plans: of each attention that with one range for all probabilities.
        images: uint8 (H, W, 3) each.
        progress: called after each image with (done, count).
    """
    if not plans:
        return {}
    taps = [f"{name}.{letter}" for name in plans for letter in "qkvp"]
    model, outputs = lower_taps(canonical, settings, FLOAT, taps)
    session, distinct = load(model.SerializeToString()), list(dict.fromkeys(outputs))
    found = {name: AttentionReach() for name in plans}
    for done, pixels in enumerate(images, 1):
        made = dict(
            zip(distinct, session.run(distinct, {settings.form.input.value: pixels[None]}), strict=True)
        )
        tapped = iter([made[output].reshape(-1, *made[output].shape[2:]) for output in outputs])
        for name, plan in plans.items():
            operands = next(tapped), next(tapped), next(tapped), next(tapped)
            found[name] += _reach_of(plan, *operands)
        progress(done, len(images))
    return found


def _reach_of(plan: AttentionPlan, q: Array, k: Array, v: Array, p: Array) -> AttentionReach:
    """Of one image: q, k, v (heads of all windows, rows, width) and p (the same, queries, keys)."""
    queries, steps = plan.queries.codes(q), v / plan.value_scale
    shared = EXPONENTIALS if plan.probability_scale is None else Affine(plan.probability_scale)
    return AttentionReach(
        loss_of(queries, plan.queries.zero_point, (k / plan.key_scale).swapaxes(1, 2)),
        loss_of(shared.codes(p), 0, steps),
        loss_of(np.rint(p / p.max(axis=-1, keepdims=True) * CODE), 0, steps),
    )


def loss_of(codes: Array, zero_point: int, steps: Array) -> Loss:
    """Of one product for each head.

    Args:
        codes: uint8 codes (heads, rows, inner).
        zero_point: of the codes, which is taken off behind the sums.
        steps: (heads, inner, columns) in steps, not rounded.
    """
    first, second = _paired(codes), _paired(steps.swapaxes(1, 2)).swapaxes(2, 3)
    reach = np.abs(outermost(first) @ second).max(axis=2)  # (heads, pairs, columns)
    saturated = np.zeros(len(GROWTHS))
    for head, pair in np.argwhere((reach > LIMIT).any(axis=2)):  # few: the others cannot pass it
        sums = first[head, pair] @ second[head, pair][:, reach[head, pair] > LIMIT]
        over = np.abs(sums[np.abs(sums) > LIMIT]) / LIMIT
        saturated += np.square(np.maximum(over[:, None] - GROWTHS, 0.0)).sum(axis=0) * float(LIMIT) ** 2
    power = float(np.square(codes - zero_point, dtype=np.float64).sum())
    return Loss(saturated, power * steps.shape[2] / 12)  # a step's rounding has a twelfth of it squared


def _paired(values: Array) -> Array:
    """(heads, rows, inner) as (heads, pairs, rows, 2): neighbours along the inner dimension together."""
    heads, rows, inner = values.shape
    wide = np.pad(values, ((0, 0), (0, 0), (0, inner % 2)))
    return wide.reshape(heads, rows, -1, 2).transpose(0, 2, 1, 3)
