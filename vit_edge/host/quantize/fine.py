"""The fine form of linear layers: activations in two codes, at the price of twice the product.

A range per token helps where tokens differ in size; what is left then is the rounding to eight bits itself.
Where a model carries the errors of its first layers on, as patch features do, a few layers with finer steps
are worth more than ranges per token everywhere, and far cheaper than the same layers in float.
"""

import dataclasses
from collections.abc import Mapping

import onnx_ir as ir

from vit_edge.host.affine import Affine
from vit_edge.host.plan import FineRange
from vit_edge.host.quantize.plans import LayerPlans
from vit_edge.host.quantize.reduced_range import reduced_linear
from vit_edge.host.quantize.tally import Activation
from vit_edge.host.quantize.types import Form
from vit_edge.host.rewrite.composites import LINEAR, composites
from vit_edge.host.rewrite.values import linear_parts
from vit_edge.spec import Arithmetic


def with_fine(
    plans: LayerPlans, exact: LayerPlans, graph: ir.Graph, seen: Mapping[str, Activation], kind: Arithmetic
) -> LayerPlans:
    """The same with the fine form of each linear layer beside the others.

    A layer with an odd number of inputs has none: where sums of two products may saturate, the last value
    would be added to the first remainder.

    Args:
        plans: for the arithmetic `kind`.
        exact: of the same layers, eight bits everywhere.
        graph: holds the layers, folded.
        seen: the observed input of each.
        kind: of the CPU.
    """
    weights = {str(node.name): linear_parts(node)[1] for node in composites(graph, LINEAR)}
    linears = {name: dict(forms) for name, forms in plans.linears.items()}
    for name, forms in linears.items():
        static = exact.linears[name][Form.STATIC]
        if len(static.weight) % 2:
            continue
        made = dataclasses.replace(static, activation=fine_range(seen[name]))
        saturates = kind is Arithmetic.SATURATING
        forms[Form.FINE] = reduced_linear(made, weights[name], seen[name]) if saturates else made
    return dataclasses.replace(plans, linears=linears)


def fine_range(activation: Activation) -> FineRange:
    """All that was seen, clipped nowhere, with room for remainders on both sides of the zero point."""
    low, high = float(activation.low.min()), float(activation.high.max())
    parts = FineRange(Affine(1.0)).parts
    room = parts / (255 - 2 * parts) * max(high - low, high, -low)
    return FineRange(Affine.of(min(low, -room), max(high, room)))
