"""The INT8 form of a convolution outside the patch embedding: ranges and weights.

Ranges are those that disturb the sampled numbers themselves least, of the candidates for linear layers.
"""

import math

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array, Float32, Int8
from vit_edge.host.affine import Affine
from vit_edge.host.plan import ConvPlan
from vit_edge.host.quantize.ranges import statistical_ranges
from vit_edge.host.quantize.tally import Activation
from vit_edge.host.rewrite.values import constant_of, static_shape

STEPS = 127  # on either side of zero
SAFE_STEPS = 64  # two products with any codes of uint8 add up to at most 2 * 255 * 64, which 16 bits hold


def conv_plan(node: ir.Node, given: Activation, result: Activation) -> tuple[ConvPlan, str]:
    """The plan of a Conv, and how the range of its input was found.

    Args:
        node: with a constant weight.
        given: what calibration saw of its input, rows of channels.
        result: the same of what it gives, behind a Relu or Clip that alone reads it.
    """
    weight, bias = _parameters(node)
    coded, scale = rounded(weight, STEPS)
    reach, method = _least_noise(given)
    return ConvPlan(reach, _least_noise(result)[0], coded, scale, bias), method


def safe_weight(node: ir.Node) -> tuple[Int8, Float32]:
    """Its weight in so few steps that no sum of two products saturates."""
    return rounded(_parameters(node)[0], SAFE_STEPS)


def rounded(weight: Array, steps: int) -> tuple[Int8, Float32]:
    """Codes (out, ...) and scales (out,), the largest weight of each output channel being the last step."""
    largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    scale = (np.maximum(largest, 1e-12) / steps).astype(np.float32)
    shape = (-1, *[1] * (weight.ndim - 1))
    return np.clip(np.rint(weight / scale.reshape(shape)), -steps, steps).astype(np.int8), scale


def conv_macs(node: ir.Node) -> int:
    """Products of a weight with an activation for one image, of a Conv or ConvTranspose."""
    weight = constant_of(node.inputs[1])
    places = node.outputs[0] if node.op_type == "Conv" else node.inputs[0]
    shape = static_shape(places) or (0, 0)
    return 0 if weight is None else weight.size * math.prod(shape[2:])


def _parameters(node: ir.Node) -> tuple[Array, Float32]:
    weight = constant_of(node.inputs[1])
    if weight is None:
        raise ValueError(f"{node.name}: the weight is not constant")
    bias = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    return weight, np.zeros(len(weight), np.float32) if bias is None else bias.astype(np.float32)


def _least_noise(seen: Activation) -> tuple[Affine, str]:
    low, high = float(seen.low.min()), float(seen.high.max())
    candidates = statistical_ranges(seen.histogram, low, high)

    def noise(method: str) -> float:
        error = candidates[method].rounded(seen.sample) - seen.sample
        return float(np.square(error, dtype=np.float64).sum())

    best = min(candidates, key=noise)
    return candidates[best], best
