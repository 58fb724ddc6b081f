"""Fewer steps where eight bits could saturate a CPU that adds pairs of products in int16.

Halving every weight (7 bits, -64 to 63) would do, and double the rounding error of all. But what saturates is
decided column by column, by the codes that its inputs really take: a column whose pair sums stay within int16
keeps its 127 steps, any other gets as many as fit, 64 at the worst. See `saturation` for the arithmetic.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from vit_edge.host.lower.embed import Normalisation, channels_last, unnormalised
from vit_edge.host.lower.graph import Array
from vit_edge.host.lower.model import patches_of
from vit_edge.host.plan import AttentionPlan, EmbedPlan, Float32, Int8, LinearPlan, QuantPlan
from vit_edge.host.quantize.observe import Activation
from vit_edge.host.quantize.plans import LayerPlans
from vit_edge.host.quantize.saturation import CODE, LIMIT, code_box, pair_reach
from vit_edge.host.quantize.types import LayerDecision, Narrowed, Quantization
from vit_edge.host.quantize.weights import STEPS, compensated, nearest
from vit_edge.host.rewrite.composites import ATTENTION, EMBED, LINEAR, composites
from vit_edge.host.rewrite.values import integer, linear_parts

LEAST_GROWTH = 1.01  # of a scale; rounding may leave a sum just above the limit


def narrowed_plans(
    plans: LayerPlans, graph: ir.Graph, seen: Mapping[str, Activation], normal: Normalisation | None
) -> LayerPlans:
    """The same forms for a CPU that adds pairs of uint8 x int8 products in int16.

    Args:
        plans: eight bits everywhere.
        graph: composites, folded.
        seen: the observed input of each linear layer and operands of each attention, after folding.
        normal: mean and std of the preprocessing, for the patch embedding.
    """
    linears, attentions, embed = dict(plans.linears), dict(plans.attentions), plans.embed
    for node in composites(graph, LINEAR):
        if forms := plans.linears.get(name := str(node.name)):
            weight = linear_parts(node)[1]
            linears[name] = {form: narrowed_linear(plan, weight, seen[name]) for form, plan in forms.items()}
    for node in composites(graph, ATTENTION):
        if cores := plans.attentions.get(name := str(node.name)):
            q, k, heads = seen[f"{name}.q"], seen[f"{name}.k"], integer(node, "heads")
            attentions[name] = {form: narrowed_attention(plan, q, k, heads) for form, plan in cores.items()}
    patches = next(composites(graph, EMBED), None)
    if embed is not None and patches is not None and normal is not None:
        embed = narrowed_embed(embed, patches, normal)
    return dataclasses.replace(plans, linears=linears, attentions=attentions, embed=embed)


def with_biases(plan: QuantPlan, corrected: QuantPlan) -> QuantPlan:
    """The plan with the biases of another of the same layers."""
    linears = {
        name: dataclasses.replace(layer, bias=corrected.linears[name].bias)
        for name, layer in plan.linears.items()
    }
    return dataclasses.replace(plan, linears=linears)


def narrowed(quantization: Quantization) -> Quantization:
    """The quantization with its narrow plan; itself where that has been taken already.

    Raises:
        ValueError: no narrow plan was asked for.
    """
    if quantization.narrowed is not None:
        return quantization
    if quantization.narrow is None:
        raise ValueError("a saturating target needs a quantization with settings.saturating")
    found = tuple(_operands(quantization.plan, quantization.narrow))
    layers = tuple(_with_note(layer, found) for layer in quantization.layers)
    return dataclasses.replace(
        quantization, plan=quantization.narrow, layers=layers, narrow=None, narrowed=found
    )


def narrowed_json(quantization: Quantization) -> dict[str, dict[str, int]] | None:
    """What the plan has fewer steps in, by operand, in plain JSON types; None where nothing was narrowed."""
    if quantization.narrowed is None:
        return None
    return {
        operand.name: {"columns": operand.columns, "of": operand.of, "steps": operand.steps}
        for operand in quantization.narrowed
    }


def _operands(before: QuantPlan, after: QuantPlan) -> list[Narrowed]:
    """What narrowing did to the layers of a plan."""
    weights = [(name, layer, after.linears[name]) for name, layer in before.linears.items()]
    found = [_of_weight(name, *layers) for name, *layers in weights]
    if before.embed is not None and after.embed is not None:
        found.append(_of_weight("embed", before.embed, after.embed))
    for name, core in before.attentions.items():
        other = after.attentions[name]
        found.append(_of_scale(f"{name}.keys", core.key_scale, other.key_scale))
        found.append(_of_scale(f"{name}.values", core.value_scale, other.value_scale))
    return [operand for operand in found if operand.columns]


def narrowed_linear(plan: LinearPlan, weight: Array, activation: Activation) -> LinearPlan:
    """A linear layer whose pair sums stay within int16 for all codes that calibration leads to expect."""
    moment, rows = activation.moment, activation.rows
    if moment is None:
        raise ValueError("the layer was observed without its second moment")
    low, high = code_box(activation, plan.activation)
    coded, scale = fitted(
        plan.weight,
        plan.weight_scale,
        lambda columns, scales: compensated(weight[:, columns], scales, moment, rows),
        lambda codes: pair_reach(codes, low, high),
    )
    return dataclasses.replace(plan, weight=coded, weight_scale=scale)


def narrowed_embed(plan: EmbedPlan, node: ir.Node, normal: Normalisation) -> EmbedPlan:
    """A patch embedding that no image can saturate, whichever way round a file takes its pixels."""
    _, weight, table = linear_parts(node)
    if table is None:
        raise ValueError("the patch embedding has no table")
    patches = patches_of(node)
    weight, _ = unnormalised(weight, table, patches, normal)
    low, high = np.zeros(len(weight), np.int64), np.full(len(weight), CODE, np.int64)

    def reach(codes: Int8) -> Array:
        orders = codes, channels_last(codes, patches)
        return np.maximum(*(pair_reach(order, low, high) for order in orders))

    coded, scale = fitted(
        plan.weight, plan.weight_scale, lambda columns, scales: nearest(weight[:, columns], scales), reach
    )
    return dataclasses.replace(plan, weight=coded, weight_scale=scale)


def narrowed_attention(plan: AttentionPlan, q: Activation, k: Activation, heads: int) -> AttentionPlan:
    """Keys and values whose products with neighbouring queries and probabilities stay within int16.

    Two neighbouring probabilities of one softmax add up to at most 1, but before they are normalised each
    may be 1.
    """
    _, high = code_box(q, plan.queries)
    largest = high * np.minimum(np.maximum(np.abs(k.low), np.abs(k.high)) / plan.key_scale, STEPS)
    by_head = largest.reshape(heads, -1)
    paired = np.pad(by_head, ((0, 0), (0, by_head.shape[1] % 2))).reshape(heads, -1, 2)
    keys = float(paired.sum(axis=2).max())
    total = 2 * CODE if plan.probability_scale is None else min(2 * CODE, 1 / plan.probability_scale + 1)
    return dataclasses.replace(
        plan,
        key_scale=float(np.float32(plan.key_scale * max(1.0, keys / LIMIT))),
        value_scale=float(np.float32(plan.value_scale * max(1.0, total * STEPS / LIMIT))),
    )


def fitted(
    coded: Int8,
    scale: Float32,
    recode: Callable[[Array, Float32], Int8],
    reach: Callable[[Int8], Array],
) -> tuple[Int8, Float32]:
    """Codes (in, out) and scales (out,) with larger steps in the columns whose pair sums pass the limit.

    Args:
        coded: the codes with eight bits.
        scale: their scales.
        recode: codes anew the given columns with the given scales.
        reach: the largest pair sum of each column.
    """
    coded, scale = coded.copy(), scale.copy()
    while True:
        sums = reach(coded)
        over = np.flatnonzero(sums > LIMIT)
        if not over.size:
            return coded, scale
        scale[over] *= np.maximum(sums[over] / LIMIT, LEAST_GROWTH).astype(np.float32)
        coded[:, over] = recode(over, scale[over])


def _with_note(layer: LayerDecision, found: Sequence[Narrowed]) -> LayerDecision:
    """The decision, saying what of the layer has fewer steps."""
    notes = [
        f"{operand.columns} of {operand.of} columns" if operand.name == layer.name else operand.name
        for operand in found
        if operand.name in (layer.name, f"{layer.name}.keys", f"{layer.name}.values")
    ]
    if not notes:
        return layer
    return dataclasses.replace(layer, reason=f"{layer.reason}; 7 bits in {' and '.join(notes)}")


def _of_weight(name: str, before: LinearPlan | EmbedPlan, after: LinearPlan | EmbedPlan) -> Narrowed:
    changed = np.flatnonzero(before.weight_scale != after.weight_scale)
    widest = np.abs(after.weight[:, changed].astype(int)).max(axis=0)
    return Narrowed(name, len(changed), len(after.weight_scale), int(widest.min(initial=STEPS)))


def _of_scale(name: str, before: float, after: float) -> Narrowed:
    return Narrowed(name, int(before != after), 1, int(STEPS * before / after))
