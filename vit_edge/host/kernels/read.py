"""Reading the QDQ spelling of an INT8 graph."""

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.values import constant_of, integer, scalar_of

MOST_DEEP = 32768  # rows of a weight: no sum of so many products overflows


class Codes(NamedTuple):
    """Integers, and what they stand for."""

    value: ir.Value
    scale: float
    zero_point: int
    signed: bool

    @property
    def real(self) -> ir.Value | None:
        """What was quantized, where QuantizeLinear made them with this very scale."""
        node = self.value.producer()
        if node is None or not is_op(node, "QuantizeLinear"):
            return None
        same = scalar_of(node.inputs[1]) == self.scale and scalar_of(node.inputs[2]) == self.zero_point
        return node.inputs[0] if same else None


def codes_behind(value: ir.Value | None) -> Codes | None:
    """What a DequantizeLinear with one scale reads, where it makes `value` and reads no constant."""
    node = None if value is None else value.producer()
    if node is None or not is_op(node, "DequantizeLinear") or len(node.inputs) < 3:
        return None
    scale, zero = constant_of(node.inputs[1]), constant_of(node.inputs[2])
    stored = node.inputs[0]
    if stored is None or constant_of(stored) is not None or scale is None or zero is None or scale.size != 1:
        return None
    if zero.dtype not in (np.uint8, np.int8):
        return None
    return Codes(stored, float(scale.reshape(())), int(zero.reshape(())), zero.dtype == np.int8)


def weight_behind(value: ir.Value | None) -> tuple[Array, Array] | None:
    """An int8 weight (in, out) and its scale per column (out,), where DequantizeLinear reads them."""
    node = None if value is None else value.producer()
    if node is None or not is_op(node, "DequantizeLinear") or integer(node, "axis", 1) != 1:
        return None
    weight, scale = constant_of(node.inputs[0]), constant_of(node.inputs[1])
    zero = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    if (
        weight is None
        or scale is None
        or weight.dtype != np.int8
        or weight.ndim != 2
        or len(weight) > MOST_DEEP
    ):
        return None
    if scale.shape != weight.shape[1:] or (zero is not None and zero.any()):
        return None
    return weight, scale.astype(np.float32)
