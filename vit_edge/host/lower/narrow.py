"""Products that read 8 bits in a graph whose activations have 16.

They still give 16: what is lost is what a range of 256 steps costs, and not what rounding a sum to 256 steps
would. Compilers take that of a MatMul with one scale for the whole weight, so a linear layer becomes such a
product, the scales of its columns relative to the largest, and its bias.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array, Float32
from vit_edge.host.affine import Affine
from vit_edge.host.initializers import stored
from vit_edge.host.plan import FullIntegerPlan, LinearPlan
from vit_edge.host.rewrite.values import static_shape, typed

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Parted:
    """What is to be known of a graph whose narrow layers were written as products that read 8 bits."""

    read_in: Mapping[ir.Node, tuple[Affine, ...]]
    """The codes of the first inputs of each such product; further ones are no activations."""
    ranges: Mapping[str, Range]
    """Of the values that are new, by name."""


def part_narrow(graph: ir.Graph, plan: FullIntegerPlan) -> Parted:
    """Write the layers that a plan calls narrow so, in place.

    Args:
        graph: of standard operators, otherwise float.
        plan: the layers, by the names of their nodes; of an attention with `.scores` and `.mix` behind them.

    Raises:
        ValueError: a narrow layer has no range for all of its rows.
    """
    read_in: dict[ir.Node, tuple[Affine, ...]] = {}
    ranges: dict[str, Range] = {}
    for node in list(graph):
        layer, _, part = str(node.name).rpartition(".")
        if node.op_type == "Gemm" and node.name in plan.narrow:
            linear, columns = plan.linears[node.name], plan.columns[node.name]
            if not isinstance(linear.activation, Affine):
                raise ValueError(f"{node.name} has no range for all rows")
            product, found = _linear(graph, node, linear, columns)
            read_in[product] = (linear.activation,)
            ranges.update(found)
        elif node.op_type == "MatMul" and layer in plan.narrow:
            core = plan.attentions[layer]
            if core.probability_scale is None:
                raise ValueError(f"{layer} has no range for all rows")
            codes = {
                "scores": (core.queries, _unsigned(core.key_scale)),
                "mix": (Affine(core.probability_scale), _unsigned(core.value_scale)),
            }
            read_in[node] = codes[part]
    return Parted(read_in, ranges)


def _linear(
    graph: ir.Graph, node: ir.Node, layer: LinearPlan, columns: tuple[Float32, Float32]
) -> tuple[ir.Node, dict[str, Range]]:
    """The product of a linear layer in its new form, and the ranges of what is new."""
    name, made = str(node.name), node.outputs[0]
    scale = layer.weight_scale.astype(np.float32)
    whole = np.asarray(scale.max())
    bias = np.zeros_like(scale) if layer.bias is None else layer.bias.astype(np.float32)
    low, high = (ends - bias for ends in columns)

    codes = (
        stored(graph, layer.weight.astype(np.int8), f"{name}.codes"),
        stored(graph, whole, f"{name}.scale"),
        stored(graph, np.asarray(0, np.int8), f"{name}.zero"),
    )
    weight = ir.node("DequantizeLinear", codes, name=f"{name}.weight.real")
    product = ir.node("MatMul", [node.inputs[0], weight.outputs[0]], name=f"{name}.product")
    scaled = ir.node(
        "Mul", [product.outputs[0], stored(graph, scale / whole, f"{name}.scales")], name=f"{name}.scaled"
    )
    total = ir.node("Add", [scaled.outputs[0], stored(graph, bias, f"{name}.offsets")], name=f"{name}.sum")
    for new in (product, scaled, total):
        typed(new.outputs[0], static_shape(made) or ())
        new.outputs[0].name = new.name
    graph.insert_before(node, [weight, product, scaled, total])
    made.replace_all_uses_with(total.outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)
    total.outputs[0].name = made.name
    return product, {
        str(product.name): _extremes(low * whole / scale, high * whole / scale),
        str(scaled.name): _extremes(low, high),
    }


def _unsigned(scale: float) -> Affine:
    """The codes of a symmetric int8 range as uint8."""
    return Affine(scale, 128)


def _extremes(low: Array, high: Array) -> Range:
    return float(low.min()), float(high.max())
