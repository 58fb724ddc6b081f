"""Lowering of Linear: one Gemm, float or integer.

Integer, static range: QDQ input, int8 weight per column, and the bias as int32 *inside* the Gemm. A MatMul
followed by an Add would be fused to a float Gemm; Gemm with an int32 bias becomes onnxruntime's QGemm.
Integer, fine: codes of the values beside codes of their remainders, weights above their twelfth, one Gemm.
Integer, row range: each row is divided by its largest magnitude, quantized, multiplied, and scaled back, in
standard operators and without calibration. It survives rows (tokens) of very different size.
"""

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array, Float32, Int8
from vit_edge.host.affine import Affine
from vit_edge.host.lower.graph import GraphWriter
from vit_edge.host.plan import FineRange, LinearPlan, RowRange

BIAS_STEPS = 2**30  # in which a bias may be coded: int32 has to hold what products add to it, too


def float_linear(w: GraphWriter, x: ir.Value, weight: Array, bias: Array | None, name: str) -> ir.Value:
    """Product of x (rows, in) and weight (in, out), plus bias (out,); float32."""
    inputs = [x, w.constant(weight, f"{name}.weight")]
    if bias is not None:
        inputs.append(w.constant(bias, f"{name}.bias"))
    return w.op("Gemm", inputs, name)


def int8_linear(w: GraphWriter, x: ir.Value, plan: LinearPlan, name: str) -> ir.Value:
    """The same, through an integer kernel."""
    if isinstance(plan.activation, Affine):
        return _static(w, x, plan, plan.activation, name)
    if isinstance(plan.activation, FineRange):
        return _fine(w, x, plan, plan.activation, name)
    return _by_row(w, x, plan, plan.activation, name)


def _static(w: GraphWriter, x: ir.Value, plan: LinearPlan, reach: Affine, name: str) -> ir.Value:
    coded = w.activation(x, reach, f"{name}.input")
    return _gemm(w, coded, plan.weight, plan, w.activation_range(reach).scale, name)


def _fine(w: GraphWriter, x: ir.Value, plan: LinearPlan, fine: FineRange, name: str) -> ir.Value:
    reach = w.activation_range(fine.reach)
    codes = w.quantized(x, reach, f"{name}.input")
    left = w.op("Sub", [x, w.dequantized(codes, reach, f"{name}.coarse")], f"{name}.remainder")
    remainders = w.quantized(left, fine.remainder(reach), f"{name}.remainder")
    both = w.op("Concat", [codes, remainders], f"{name}.codes", {"axis": -1})
    weight = np.concatenate([plan.weight, fine.second(plan.weight)])
    return _gemm(w, w.dequantized(both, reach, f"{name}.input"), weight, plan, reach.scale, name)


def _gemm(
    w: GraphWriter, coded: ir.Value, weight: Int8, plan: LinearPlan, scale: float, name: str
) -> ir.Value:
    """The product of restored codes, in steps of `scale`, with a weight (in, out), plus the plan's bias."""
    bias = np.zeros(weight.shape[1], np.float32) if plan.bias is None else plan.bias
    constants = weight_and_bias(w, weight, plan.weight_scale, bias, scale, name)
    return w.op("Gemm", [coded, *constants], name)


def bias_steps(bias: Array, input_scale: float, weight_scale: Array) -> tuple[Array, Array]:
    """A bias (out,) as int32, and its scale (out,): that of the accumulator, in which `with_room` fits it."""
    scale = np.float32(input_scale) * weight_scale.astype(np.float32)
    limit = 2**31 - 1
    return np.clip(np.rint(bias.astype(np.float64) / scale), -limit, limit).astype(np.int32), scale


def with_room(
    weight: Int8, scale: Float32, bias: Array, step: float, *, axis: int = 1
) -> tuple[Int8, Float32]:
    """Codes and scales (out,), larger ones in the columns whose bias int32 would not hold in their steps.

    Such a column's weights or inputs are next to nothing beside its bias, if not zero (a channel that was
    pruned, a layer that nothing reaches): what larger steps lose of them is less than a step of the bias.

    Args:
        weight: int8, the columns along `axis`.
        scale: of the columns.
        bias: float (out,).
        step: scale of what the weights are multiplied with.
        axis: 1 of two, or 0.
    """
    least = (np.abs(bias.astype(np.float64)) / (step * BIAS_STEPS)).astype(np.float32)
    if not (scale < least).any():
        return weight, scale
    larger = np.maximum(scale, least)
    columns = (-1,) if axis == 1 else (-1, *[1] * (weight.ndim - 1))
    return np.rint(weight * (scale / larger).reshape(columns)).astype(np.int8), larger


def weight_and_bias(
    w: GraphWriter, weight: Int8, scale: Float32, bias: Array, step: float, name: str, *, axis: int = 1
) -> list[ir.Value]:
    """Both restored from codes, the bias from int32 in the accumulator's own scale: exact to half its step.

    Args as of `with_room`.
    """
    weight, scale = with_room(weight, scale, bias, step, axis=axis)
    restored = w.weight(weight, scale, name, axis=axis)
    steps, of_bias = bias_steps(bias, step, scale)
    inputs = [
        w.constant(steps, f"{name}.bias"),
        w.constant(of_bias, f"{name}.bias_scale"),
        w.constant(np.zeros(steps.shape, np.int32), f"{name}.bias_zero_point"),
    ]
    return [restored, w.op("DequantizeLinear", inputs, f"{name}.bias_dequantized", {"axis": 0})]


def _by_row(w: GraphWriter, x: ir.Value, plan: LinearPlan, reach: RowRange, name: str) -> ir.Value:
    axes = w.shared(np.asarray([-1], np.int64), "axes")
    magnitude = x if reach.one_sided else w.op("Abs", [x], f"{name}.abs")
    largest = w.op("ReduceMax", [magnitude, axes], f"{name}.row_max", {"keepdims": 1})
    row = w.op("Max", [largest, w.shared(np.asarray(reach.floor, np.float32), "floor")], f"{name}.row_scale")
    inverse = w.op("Reciprocal", [row], f"{name}.inverse")  # a product per element is cheaper than a division
    unit = w.op("Mul", [x, inverse], f"{name}.unit")
    coded = w.activation(unit, reach.unit, f"{name}.input")
    weight = w.weight(plan.weight, plan.weight_scale, name)
    product = w.op("MatMul", [coded, weight], f"{name}.product")
    if plan.bias is None:
        return w.op("Mul", [product, row], name)
    restored = w.op("Mul", [product, row], f"{name}.restored")
    return w.op("Add", [restored, w.constant(plan.bias, f"{name}.bias")], name)
