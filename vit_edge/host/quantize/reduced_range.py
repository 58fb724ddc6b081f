"""Reduced range: fewer weight steps where eight bits could saturate a CPU that adds pairs in int16.

Halving every weight (7 bits, -64 to 63) would do, and double the rounding error of all. But what saturates is
decided column by column, by the codes that its inputs really take: a column whose pair sums stay within int16
keeps its 127 steps, any other gets as many as fit, 64 at the worst. See `saturation` for the arithmetic.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array, Float32, Float64, Int8
from vit_edge.host.lower.embed import Normalisation, channels_last, unnormalised
from vit_edge.host.lower.sizes import patches_of
from vit_edge.host.plan import AttentionPlan, EmbedPlan, LinearPlan, QuantPlan
from vit_edge.host.quantize.attention_reach import AttentionReach
from vit_edge.host.quantize.conv_plans import SAFE_STEPS, safe_weight
from vit_edge.host.quantize.cores import shared_cores
from vit_edge.host.quantize.observe import PATCHES
from vit_edge.host.quantize.plans import LayerPlans, table_for
from vit_edge.host.quantize.saturation import CODE, LIMIT, box_corners, pair_reach, seen_corners
from vit_edge.host.quantize.tally import Activation
from vit_edge.host.quantize.types import Form, LayerDecision, Reduced
from vit_edge.host.quantize.weights import STEPS, Compensation
from vit_edge.host.rewrite.composites import EMBED, LINEAR, composites
from vit_edge.host.rewrite.values import linear_parts

LEAST_GROWTH = 1.01  # of a scale; rounding may leave a sum just above the limit

Recode = Callable[[Array, Float32], Int8]  # (indices of columns, their scales) -> their codes


def reduced_plans(
    plans: LayerPlans,
    graph: ir.Graph,
    seen: Mapping[str, Activation],
    reaches: Mapping[str, AttentionReach],
    normal: Normalisation | None,
) -> LayerPlans:
    """The same forms for a CPU that adds pairs of uint8 x int8 products in int16.

    Args:
        plans: eight bits everywhere.
        graph: composites, folded.
        seen: the observed input of each linear layer, after folding.
        reaches: of each attention.
        normal: mean and std of the preprocessing, for the patch embedding.
    """
    embed = plans.embed
    weights = {str(node.name): linear_parts(node)[1] for node in composites(graph, LINEAR)}

    def reduced(name: str) -> dict[Form, LinearPlan]:
        recode = _recode_of(weights[name], seen[name])  # the same for every form
        return {form: _reduced(plan, recode, seen[name]) for form, plan in plans.linears[name].items()}

    with shared_cores() as pool:
        linears = dict(zip(plans.linears, pool.map(reduced, plans.linears), strict=True))
    attentions = {
        name: {form: reduced_attention(plan, reaches[name]) for form, plan in cores.items()}
        for name, cores in plans.attentions.items()
    }
    patches = next(composites(graph, EMBED), None)
    if embed is not None and patches is not None and normal is not None:
        embed = reduced_embed(embed, patches, normal, seen[PATCHES])
    convs = dict(plans.convs)
    for node in graph:
        name = str(node.name)
        if name in convs:
            coded, scale = safe_weight(node)
            convs[name] = {
                form: dataclasses.replace(plan, weight=coded, weight_scale=scale)
                for form, plan in convs[name].items()
            }
    return dataclasses.replace(plans, linears=linears, attentions=attentions, embed=embed, convs=convs)


def reduced_operands(before: QuantPlan, after: QuantPlan) -> tuple[Reduced, ...]:
    """What has fewer steps in one plan than in another of the same layers."""
    weights = [(name, layer, after.linears[name]) for name, layer in before.linears.items()]
    found = [_of_weight(name, *layers) for name, *layers in weights]
    if before.embed is not None and after.embed is not None:
        found.append(_of_weight("embed", before.embed, after.embed))
    found += [
        Reduced(name, len(conv.weight_scale), len(conv.weight_scale), SAFE_STEPS)
        for name, conv in after.convs.items()
        if not np.array_equal(conv.weight_scale, before.convs[name].weight_scale)
    ]
    for name, core in before.attentions.items():
        other = after.attentions[name]
        found.append(_of_scale(f"{name}.keys", core.key_scale, other.key_scale))
        found.append(_of_scale(f"{name}.values", core.value_scale, other.value_scale))
    return tuple(operand for operand in found if operand.columns)


def with_notes(layers: Sequence[LayerDecision], found: Sequence[Reduced]) -> tuple[LayerDecision, ...]:
    """The decisions, saying what of each layer has fewer steps."""
    return tuple(_with_note(layer, found) for layer in layers)


def reduced_linear(plan: LinearPlan, weight: Array, activation: Activation) -> LinearPlan:
    """A linear layer whose pair sums stay within int16 for all codes that calibration leads to expect."""
    return _reduced(plan, _recode_of(weight, activation), activation)


def _recode_of(weight: Array, activation: Activation) -> Recode:
    """Codes columns of a linear layer's weight anew."""
    if activation.moment is None:
        raise ValueError("the layer was observed without its second moment")
    return _recoder(weight, activation.moment, activation.rows)


def _reduced(plan: LinearPlan, recode: Recode, activation: Activation) -> LinearPlan:
    corners = seen_corners(activation, plan.activation)
    coded, scale = fitted(plan.weight, plan.weight_scale, recode, lambda codes: pair_reach(codes, corners))
    return dataclasses.replace(plan, weight=coded, weight_scale=scale)


def reduced_embed(plan: EmbedPlan, node: ir.Node, normal: Normalisation, seen: Activation) -> EmbedPlan:
    """A patch embedding that no image can saturate, whichever way round a file takes its pixels."""
    _, weight, table = linear_parts(node)
    if table is None:
        raise ValueError("the patch embedding has no table")
    patches = patches_of(node)
    weight, table = unnormalised(weight, table, patches, normal)
    corners = box_corners(np.zeros(len(weight), np.int64), np.full(len(weight), CODE, np.int64))

    def reach(codes: Int8) -> Float64:
        return np.maximum(*(pair_reach(order, corners) for order in (codes, channels_last(codes, patches))))

    recode = _recoder(weight, seen.covariance, seen.rows)
    coded, scale = fitted(plan.weight, plan.weight_scale, recode, reach)
    table = table_for(table, patches, weight, coded * scale, seen)
    return dataclasses.replace(plan, weight=coded, weight_scale=scale, table=table)


def reduced_attention(plan: AttentionPlan, reach: AttentionReach) -> AttentionPlan:
    """Keys and values with so much larger steps that saturation hardly adds to what rounding does."""
    values = reach.row_values if plan.probability_scale is None else reach.values
    return dataclasses.replace(
        plan,
        key_scale=float(np.float32(plan.key_scale * reach.keys.growth)),
        value_scale=float(np.float32(plan.value_scale * values.growth)),
    )


def _recoder(weight: Array, moment: Float32 | Float64, rows: int) -> Recode:
    """Codes columns of a weight anew; what that needs of the inputs is found at the first call, and once."""
    compensation = functools.cache(lambda: Compensation(moment, rows))
    return lambda columns, scales: compensation().rounded(weight[:, columns], scales)


def fitted(
    coded: Int8,
    scale: Float32,
    recode: Recode,
    reach: Callable[[Int8], Float64],
) -> tuple[Int8, Float32]:
    """Codes (in, out) and scales (out,) with larger steps in the columns whose pair sums pass the limit.

    Args:
        coded: the codes with eight bits.
        scale: their scales.
        recode: codes anew the given columns with the given scales.
        reach: the largest pair sum of each of the columns that it is given.
    """
    coded, scale = coded.copy(), scale.copy()
    looked = np.arange(coded.shape[1])
    while True:
        sums = reach(coded[:, looked])
        passed = sums >= LIMIT + 1  # sums of integers; the bound need not be one
        looked, sums = looked[passed], sums[passed]
        if not looked.size:
            return coded, scale
        scale[looked] *= np.maximum(sums / LIMIT, LEAST_GROWTH).astype(np.float32)
        coded[:, looked] = recode(looked, scale[looked])


def _with_note(layer: LayerDecision, found: Sequence[Reduced]) -> LayerDecision:
    """The decision, saying what of the layer has fewer steps."""
    notes = [
        f"{operand.columns} of {operand.of} columns" if operand.name == layer.name else operand.name
        for operand in found
        if operand.name in (layer.name, f"{layer.name}.keys", f"{layer.name}.values")
    ]
    note = f"; reduced range in {' and '.join(notes)}"
    if not notes or layer.reason.endswith(note):
        return layer
    return dataclasses.replace(layer, reason=layer.reason + note)


def _of_weight(name: str, before: LinearPlan | EmbedPlan, after: LinearPlan | EmbedPlan) -> Reduced:
    changed = np.flatnonzero(before.weight_scale != after.weight_scale)
    widest = np.abs(after.weight[:, changed].astype(int)).max(axis=0)
    return Reduced(name, len(changed), len(after.weight_scale), int(widest.min(initial=STEPS)))


def _of_scale(name: str, before: float, after: float) -> Reduced:
    return Reduced(name, int(before != after), 1, int(STEPS * before / after))
