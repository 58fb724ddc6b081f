"""Every INT8 form that each layer may take: ranges and weights, before anything is decided."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.affine import Affine
from vit_edge.host.lower import embed as embeds
from vit_edge.host.lower.conv import is_plain_conv
from vit_edge.host.lower.embed import Normalisation, Patches
from vit_edge.host.lower.sizes import patches_of
from vit_edge.host.plan import AttentionPlan, ConvPlan, EmbedPlan, LinearPlan, QuantPlan
from vit_edge.host.quantize.balance import signed_range
from vit_edge.host.quantize.conv_plans import conv_plan
from vit_edge.host.quantize.cores import shared_cores
from vit_edge.host.quantize.observe import PATCHES
from vit_edge.host.quantize.ranges import probability_scale, row_range, search_static
from vit_edge.host.quantize.tally import Activation
from vit_edge.host.quantize.types import Form
from vit_edge.host.quantize.weights import column_scales, gptq_rounded
from vit_edge.host.rewrite.composites import image_embed
from vit_edge.host.rewrite.values import linear_parts
from vit_edge.progress import Step

GELU = "gelu"  # the name under which all GELUs together are decided


@dataclasses.dataclass(frozen=True)
class LayerPlans:
    """The INT8 forms of every layer, by canonical name."""

    linears: Mapping[str, Mapping[Form, LinearPlan]]
    attentions: Mapping[str, Mapping[Form, AttentionPlan]]
    embed: EmbedPlan | None
    convs: Mapping[str, Mapping[Form, ConvPlan]]  # outside the patch embedding
    methods: Mapping[str, str]  # how the static range of each linear layer was found

    def chosen(self, forms: Mapping[str, Form]) -> QuantPlan:
        """The layers in the given forms; a form that is not here is float."""
        linears = {
            name: options[forms[name]] for name, options in self.linears.items() if forms[name] in options
        }
        cores = {
            name: options[forms[name]] for name, options in self.attentions.items() if forms[name] in options
        }
        convs = {name: options[forms[name]] for name, options in self.convs.items() if forms[name] in options}
        return QuantPlan(linears, cores, self.embed, convs, forms.get(GELU) is Form.TANH)


def plan_layers(
    graph: ir.Graph,
    linears: Mapping[str, ir.Node],
    attentions: Mapping[str, ir.Node],
    seen: Mapping[str, Activation],
    normalisation: Normalisation | None,
    progress: Step,
) -> LayerPlans:
    """Ranges and weights of every form of every layer, from what calibration saw.

    Args:
        graph: composites, folded.
        linears: the linear layers.
        attentions: the attentions.
        seen: the observed input of each linear layer and operands of each attention, after folding.
        normalisation: mean and std of the preprocessing, for the patch embedding.
        progress: called after each linear layer with (done, count).
    """
    plans: dict[str, dict[Form, LinearPlan]] = {}
    methods: dict[str, str] = {}
    with shared_cores() as pool:
        found = pool.map(lambda name: _linear_plans(linears[name], seen[name]), linears)
        for done, (name, made) in enumerate(zip(linears, found, strict=True), 1):
            plans[name], methods[name] = made
            progress(done, len(linears))
    cores = {name: _attention_plans(name, seen) for name in attentions}
    convs: dict[str, dict[Form, ConvPlan]] = {}
    for node in graph:
        if is_plain_conv(node):
            name = str(node.name)
            plan, methods[name] = conv_plan(node, seen[name], seen[f"{name}.result"])
            convs[name] = {Form.STATIC: plan}
    return LayerPlans(plans, cores, _embed_plan(graph, seen.get(PATCHES), normalisation), convs, methods)


def _linear_plans(node: ir.Node, activation: Activation) -> tuple[dict[Form, LinearPlan], str]:
    """The static and the row form, which have the same weights, and how the static range was found."""
    _, weight, bias = linear_parts(node)
    if activation.moment is None:
        raise ValueError(f"{node.name} was observed without its second moment")
    scale = column_scales(weight, activation.moment)
    coded = gptq_rounded(weight, scale, activation.moment, activation.rows)
    reach, method = search_static(activation, weight)
    forms = {
        Form.STATIC: LinearPlan(reach, coded, scale, bias),
        Form.PER_TOKEN: LinearPlan(row_range(activation), coded, scale, bias),
    }
    return forms, method


def _attention_plans(name: str, seen: Mapping[str, Activation]) -> dict[Form, AttentionPlan]:
    """The static and the row form; they differ in how probabilities are quantized."""
    q, k, v = (seen[f"{name}.{letter}"] for letter in "qkv")
    queries = Affine.of(float(q.low.min()), float(q.high.max()))
    row = AttentionPlan(queries, signed_range(k.low, k.high).scale, signed_range(v.low, v.high).scale)
    scale = probability_scale(seen[f"{name}.p"])
    return {Form.STATIC: dataclasses.replace(row, probability_scale=scale), Form.PER_TOKEN: row}


def _embed_plan(graph: ir.Graph, seen: Activation | None, normal: Normalisation | None) -> EmbedPlan | None:
    """The patch embedding on pixels; None where the model has none that was recognised."""
    node = image_embed(graph)
    if node is None or seen is None or normal is None:
        return None
    _, weight, table = linear_parts(node)
    if table is None:
        return None
    patches = patches_of(node)
    weight, table = embeds.unnormalised(weight, table, patches, normal)
    scale = column_scales(weight, seen.covariance)
    coded = gptq_rounded(weight, scale, seen.covariance, seen.rows)
    return EmbedPlan(coded, scale, table_for(table, patches, weight, coded * scale, seen))


def table_for(table: Array, patches: Patches, weight: Array, rounded: Array, seen: Activation) -> Array:
    """The table with what rounding the weight (in, out) adds to the mean patch taken off.

    So only what differs between patches counts as error, and weights are rounded against its covariance.
    """
    moved = table.astype(np.float64).copy()
    moved[patches.prefix :] -= seen.mean @ (rounded.astype(np.float64) - weight)
    return moved.astype(np.float32)
