"""How much of a model is computed in integers, by its products of numbers with numbers."""

import math

import onnx_ir as ir

from vit_edge.host.lower.sizes import heads_of
from vit_edge.host.plan import QuantPlan
from vit_edge.host.quantize.conv_plans import conv_macs
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.composites import ATTENTION, EMBED, LINEAR, image_embed, is_composite, is_op
from vit_edge.host.rewrite.values import constant_of, static_shape


def integer_macs(canonical: Canonical, plan: QuantPlan) -> float | None:
    """The share of products for one image; None of a canonical classifier, where it says nothing."""
    found = canonical.description
    if found is not None and not found.head:
        return None
    graph = canonical.model.graph
    embed = image_embed(graph)
    quantized = {*plan.linears, *plan.attentions, *plan.convs}
    total = inside = 0
    for node in graph:
        count = macs_of(node)
        total += count
        coded = plan.embed is not None if node is embed else node.name in quantized
        inside += count if coded else 0
    return round(inside / total, 4) if total else None


def macs_of(node: ir.Node) -> int:
    """Products of numbers with numbers of one node, for one image."""
    if is_op(node, "Conv") or is_op(node, "ConvTranspose"):
        return conv_macs(node)
    if is_composite(node, ATTENTION):
        heads = heads_of(node)
        return 2 * heads.windows * heads.heads * heads.queries * heads.keys * heads.width
    if is_composite(node, LINEAR) or is_composite(node, EMBED):
        weight, rows = constant_of(node.inputs[1]), (static_shape(node.outputs[0]) or (0,))[0]
        return 0 if weight is None else rows * weight.size
    if is_op(node, "MatMul") or is_op(node, "Gemm"):
        left, made = static_shape(node.inputs[0]) or (0,), static_shape(node.outputs[0]) or ()
        return math.prod(made) * left[-1]
    return 0
