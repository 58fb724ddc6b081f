"""Which products of a float file are computed in 8 bits, and in which ranges: measured on the CPU.

For compilers that quantize a float file themselves and take types and ranges of tensors beside it. Each
product is rounded to 8 bits alone. Those with the most noise on the logits for their multiply-adds stay in
half precision, with all other operators.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import onnx

from vit_edge import plain
from vit_edge.host.affine import Affine, limits
from vit_edge.host.hybrid.products import Product, products_of
from vit_edge.host.hybrid.reaches import Feeds, Reach, reaches_of
from vit_edge.host.hybrid.rounding import logits_of, noise, rounded
from vit_edge.host.quantize.plans import LayerPlans
from vit_edge.host.quantize.probe import decibels
from vit_edge.host.quantize.types import Form
from vit_edge.progress import Step

Ends = tuple[float, float]

PROBED = 8  # images for the noise of each product


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was found on the CPU."""

    ranges: Mapping[str, Reach]
    """Of every float tensor."""
    narrow: tuple[str, ...]
    """The products in 8 bits."""
    found_by: str
    """How their ranges were found."""
    expected_db: Mapping[str, float]
    """Signal to noise ratio of all of them together that the CPU expects, with either kind of ranges."""
    alone_db: Mapping[str, float]
    """Of each product."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, as it lies beside a file in a bundle."""
        raw: dict[str, Any] = plain.of(self)
        return raw

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: an unknown or missing key, or a value of the wrong type.
        """
        return plain.read(cls, raw, "the quantization")


def choice(
    model: onnx.ModelProto, feeds: Feeds, share: float, known: Mapping[str, Ends], progress: Step
) -> Choice:
    """Types by the noise of each product alone, ranges by the noise of the whole choice.

    Args:
        model: a lowered float file for one image.
        feeds: what it takes, of each calibration image.
        share: of all multiply-adds, 0 to 1, the least that 8 bits compute.
        known: ranges of what goes into linear layers, by their names, see `input_ranges`; others are found.
        progress: called with (done, count) after each product.
    """
    products = products_of(model)
    least = with_known(reaches_of(model, feeds), products, known)
    few = feeds[:PROBED]
    whole = {name: reach.whole for name, reach in least.items()}
    exact = logits_of(model, few)
    noises = {}
    for done, product in enumerate(products, 1):
        noises[product.name] = noise(exact, logits_of(rounded(model, [product], least), few))
        progress(done, len(products))
    narrow = chosen(products, noises, share)
    together = {
        kind: noise(exact, logits_of(rounded(model, narrow, reaches), few))
        for kind, reaches in (("whole", whole), ("least squares", least))
    }
    best = min(together, key=lambda kind: together[kind])
    return Choice(
        whole if best == "whole" else least,
        tuple(product.name for product in narrow),
        best,
        {kind: round(decibels(lost), 2) for kind, lost in together.items()},
        {name: round(decibels(lost), 2) for name, lost in noises.items()},
    )


def input_ranges(plans: LayerPlans) -> dict[str, Ends]:
    """The range of what goes into each linear layer that disturbs the layer's output least."""
    found = {}
    for name, forms in plans.linears.items():
        plan = forms.get(Form.STATIC)
        if plan is not None and isinstance(plan.activation, Affine):
            low, high = plan.activation.values(np.array(limits(plan.activation.dtype))).tolist()
            found[name] = (low, high)
    return found


def with_known(
    reaches: Mapping[str, Reach], products: Sequence[Product], known: Mapping[str, Ends]
) -> dict[str, Reach]:
    """The same with the ranges that are known; of a tensor that several layers read, the first one's."""
    found: dict[str, Reach] = {}
    for product in products:
        ends, given = known.get(product.layer), product.tensors[0]
        if ends is not None and given in reaches:
            found.setdefault(given, dataclasses.replace(reaches[given], range=ends))
    return {**reaches, **found}


def chosen(products: Sequence[Product], noises: Mapping[str, float], share: float) -> list[Product]:
    """The products in 8 bits: at least a share of all multiply-adds, without the noisiest of them."""
    room = (1.0 - share) * sum(product.macs for product in products)
    wide: set[str] = set()
    for product in sorted(products, key=lambda each: -noises[each.name] / each.macs):
        if product.macs <= room:
            room -= product.macs
            wide.add(product.name)
    return [product for product in products if product.name not in wide]
