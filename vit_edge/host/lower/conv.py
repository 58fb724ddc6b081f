"""Lowering of Conv outside the patch embedding in integers, between QuantizeLinear and DequantizeLinear.

The input has one static range, the int8 weights one scale per output channel, the bias is int32, and
the result has one static range, as the integer kernels for convolutions (ONNX QLinearConv) give codes and not
real numbers. Where a Relu or Clip alone reads it, the range is that behind it; the kernel then does both.
"""

import onnx_ir as ir

from vit_edge.host.affine import Affine
from vit_edge.host.lower.graph import Attributes, GraphWriter
from vit_edge.host.lower.linear import weight_and_bias
from vit_edge.host.plan import ConvPlan
from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.values import constant_of, only_user


def is_plain_conv(node: ir.Node) -> bool:
    """Whether a node is a two-dimensional Conv with a constant weight."""
    weight = constant_of(node.inputs[1]) if is_op(node, "Conv") else None
    return weight is not None and weight.ndim == 4


def activation_behind(node: ir.Node) -> ir.Node | None:
    """The Relu or Clip that alone reads a Conv."""
    reader = only_user(node.outputs[0])
    return reader if is_op(reader, "Relu") or is_op(reader, "Clip") else None


def int8_conv(
    w: GraphWriter, x: ir.Value, plan: ConvPlan, given: Affine | None, attributes: Attributes, name: str
) -> ir.Value:
    """The product, not yet brought to the range of the result.

    Args:
        w: writes the nodes.
        x: (batch, channels, rows, columns), real numbers.
        plan: ranges and codes.
        given: the range in which x was coded and restored just before; None: it is coded now, in the plan's.
        attributes: of the Conv: strides, pads, dilations, group.
        name: of the layer.
    """
    reach = given or w.activation_range(plan.activation)
    coded = x if given is not None else w.fake(x, reach, f"{name}.input")
    constants = weight_and_bias(w, plan.weight, plan.weight_scale, plan.bias, reach.scale, name, axis=0)
    made = w.op("Conv", [coded, *constants], name)
    w.nodes[-1].attributes.update(attributes)
    return made
