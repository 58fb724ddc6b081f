"""How large the pair sums of an attention's integer products get on real images.

Both operands of these products are activations. Taking the worst of each at once would halve the steps of
keys and values everywhere, for sums that no image comes near; so the sums themselves are measured.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from vit_edge.arrays import Array, Pixels
from vit_edge.host.affine import Affine
from vit_edge.host.lower.model import LowerSettings, lower_taps
from vit_edge.host.plan import EXPONENTIALS, FLOAT, AttentionPlan
from vit_edge.host.quantize.observe import load
from vit_edge.host.quantize.saturation import CODE, outermost
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.progress import Step


@dataclasses.dataclass(frozen=True)
class AttentionReach:
    """The largest magnitudes of sums of two neighbouring products that were seen.

    Queries and probabilities count in their codes, keys and values in steps of their scales, not rounded.
    """

    keys: float = 0.0  # of queries with keys
    values: float = 0.0  # of probabilities with values, where one range serves all probabilities
    row_values: float = 0.0  # of exp(score - row maximum) with values

    def widened(self, other: "AttentionReach") -> "AttentionReach":
        """Of the images of both."""
        return AttentionReach(
            max(self.keys, other.keys),
            max(self.values, other.values),
            max(self.row_values, other.row_values),
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
    found = dict.fromkeys(plans, AttentionReach())
    for done, pixels in enumerate(images, 1):
        made = dict(
            zip(distinct, session.run(distinct, {settings.form.input.value: pixels[None]}), strict=True)
        )
        tapped = iter([made[output].reshape(-1, *made[output].shape[2:]) for output in outputs])
        for name, plan in plans.items():
            operands = next(tapped), next(tapped), next(tapped), next(tapped)
            found[name] = found[name].widened(_reach_of(plan, *operands))
        progress(done, len(images))
    return found


def _reach_of(plan: AttentionPlan, q: Array, k: Array, v: Array, p: Array) -> AttentionReach:
    """Of one image: q, k, v (heads of all windows, rows, width) and p (the same, queries, keys)."""
    ends, others = outermost(_paired(plan.queries.codes(q))), outermost(_paired(k / plan.key_scale))
    keys = float(np.abs(ends @ others.swapaxes(-1, -2)).max())
    columns = _paired(v.swapaxes(1, 2) / plan.value_scale).swapaxes(-1, -2)  # (heads, pairs, 2, width)

    def with_values(codes: Array) -> float:
        return float(np.abs(outermost(_paired(codes)) @ columns).max())

    shared = EXPONENTIALS if plan.probability_scale is None else Affine(plan.probability_scale)
    by_row = with_values(np.rint(p / p.max(axis=-1, keepdims=True) * CODE))
    return AttentionReach(keys, with_values(shared.codes(p)), by_row)


def _paired(values: Array) -> Array:
    """(heads, rows, inner) as (heads, pairs, rows, 2): neighbours along the inner dimension together."""
    heads, rows, inner = values.shape
    wide = np.pad(values, ((0, 0), (0, 0), (0, inner % 2)))
    return wide.reshape(heads, rows, -1, 2).transpose(0, 2, 1, 3)
