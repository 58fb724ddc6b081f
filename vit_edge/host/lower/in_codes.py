"""Lowering of queries, keys and values that leave their one product as codes, and are moved as bytes.

The product is a 1x1 Conv with codes of one range behind it, which onnxruntime runs by its QLinearConv: on x86
the fastest of its integer products, and three quantizers and most of what moving floats takes are saved. The
codes are those that each part is read in by its attention: the scale of a part goes into the weights of its
columns, so that a step of the common range is one of its own. Keys and values change sign last.
"""

import dataclasses

import numpy as np
import onnx_ir as ir

from vit_edge.host.affine import Affine
from vit_edge.host.lower.attention import Heads, split_packed
from vit_edge.host.lower.conv import int8_conv
from vit_edge.host.lower.graph import GraphWriter
from vit_edge.host.lower.sizes import is_packed_split
from vit_edge.host.plan import AttentionPlan, ConvPlan, LinearPlan, QuantPlan
from vit_edge.host.rewrite.composites import ATTENTION, LINEAR, is_composite
from vit_edge.host.rewrite.values import only_user
from vit_edge.spec import GraphStyle

_STEPS = Affine(1.0, 128)  # of all parts: what it codes is counted in steps
_SIGNED = Affine(1.0, 0, np.int8)


@dataclasses.dataclass(frozen=True, eq=False)
class Packed:
    """A linear layer whose columns are the operands of one attention."""

    name: str
    plan: LinearPlan
    activation: Affine
    given: ir.Value
    ranges: tuple[Affine, ...]
    """Of the operands, in the order of their columns; signed ones are symmetric."""


def packed_in_codes(plan: QuantPlan, style: GraphStyle, split: ir.Node | None) -> Packed | None:
    """The layer whose parts a Split gives an attention, where both compute in integers; None: as ever.

    The layer has one static range, and each part is read by the same attention and by nothing else, as it is.
    """
    if style is not GraphStyle.CODES or split is None or not is_packed_split(split):
        return None
    packed = split.inputs[0]
    linear = packed.producer() if packed is not None else None
    if packed is None or linear is None or not is_composite(linear, LINEAR) or only_user(packed) is not split:
        return None
    layer, given = plan.linears.get(str(linear.name)), linear.inputs[0]
    if layer is None or not isinstance(layer.activation, Affine) or given is None:
        return None
    readers = {only_user(part) for part in split.outputs}
    attention = readers.pop()
    if readers or attention is None or not is_composite(attention, ATTENTION) or len(attention.outputs) > 1:
        return None
    core = plan.attentions.get(str(attention.name))
    if core is None:
        return None
    operands = list(attention.inputs[:3])
    ranges = tuple(_ranges(core)[operands.index(part)] for part in split.outputs)
    return Packed(str(linear.name), layer, layer.activation, given, ranges)


def _ranges(core: AttentionPlan) -> tuple[Affine, Affine, Affine]:
    """Of queries, keys and values."""
    return core.queries, Affine(core.key_scale, 0, np.int8), Affine(core.value_scale, 0, np.int8)


def split_in_codes(w: GraphWriter, x: ir.Value, packed: Packed, heads: Heads, name: str) -> list[ir.Value]:
    """The parts as (batch, heads, rows, width), restored from codes that quantizing them gives back.

    Args:
        w: writes the nodes.
        x: what the layer reads, (batch * rows, in), real numbers.
        packed: the layer.
        heads: the sizes of the attention.
        name: of the attention.
    """
    plan = _as_conv(packed)
    stored = w.transpose(product_in_codes(w, x, plan, packed.name), (0, 2, 3, 1), f"{name}.columns")
    parts = split_packed(w, stored, len(packed.ranges), heads, name)
    return [
        _restored(w, part, reach, f"{name}.{i}")
        for i, (part, reach) in enumerate(zip(parts, packed.ranges, strict=True))
    ]


def product_in_codes(w: GraphWriter, x: ir.Value, plan: ConvPlan, name: str) -> ir.Value:
    """The codes of a linear layer's result, uint8 (1, out, rows, 1).

    Args:
        w: writes the nodes.
        x: what the layer reads, (rows, in), real numbers.
        plan: of the layer as a 1x1 Conv, its weight (out, in, 1, 1).
        name: of the layer.
    """
    inputs, reach = plan.weight.shape[1], plan.activation
    image = w.reshape(w.quantized(x, reach, f"{name}.input"), (1, -1, 1, inputs), f"{name}.image")
    coded = w.dequantized(w.transpose(image, (0, 3, 1, 2), f"{name}.channels"), reach, f"{name}.input")
    return w.quantized(int8_conv(w, coded, plan, reach, {}, name), plan.result, name)


def _as_conv(packed: Packed) -> ConvPlan:
    """The layer with all parts in one range, of which a step is one of each part's own."""
    plan, ranges = packed.plan, packed.ranges
    inputs, outputs = plan.weight.shape
    each = outputs // len(ranges)
    step = np.repeat([part.scale for part in ranges], each)
    # int8 zero is the code 128
    shift = np.repeat([part.zero_point - 128 if part.dtype is np.uint8 else 0 for part in ranges], each)
    bias = (0.0 if plan.bias is None else plan.bias.astype(np.float64)) / step + shift
    weight = np.ascontiguousarray(plan.weight.T).reshape(outputs, inputs, 1, 1)
    scale = (plan.weight_scale / step).astype(np.float32)
    return ConvPlan(packed.activation, _STEPS, weight, scale, bias.astype(np.float32))


def _restored(w: GraphWriter, part: ir.Value, reach: Affine, name: str) -> ir.Value:
    """One part, real numbers, from its codes in steps of the common range."""
    signed = reach.dtype is not np.uint8
    codes = w.quantized(w.dequantized(part, _STEPS, name), _SIGNED, f"{name}.signed") if signed else part
    return w.restored(codes, reach, name)
