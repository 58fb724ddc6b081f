"""Layer normalization written out in elementary operators becomes one LayerNormalization (opset 17).

Source: Ba et al. 2016; ONNX LayerNormalization. Exports below opset 17 write
(x - mean) / sqrt(mean((x - mean)^2) + epsilon); `fold_norm_affine` takes gamma and beta in.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.host.rewrite.rule import Declined, PatternRule
from vit_edge.host.rewrite.values import constant, over_last, scalar_of, static_shape


class _Normalized(NamedTuple):
    x: ir.Value
    columns: int
    epsilon: float


class FuseLayerNormalization(PatternRule[_Normalized]):
    """ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div over the last axis -> LayerNormalization."""

    COMMUTES = True
    NEEDS = "Sqrt"
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2,4] x) => (float[2,4] y)
        <int64[1] axes = {-1}, float two = {2.0}, float eps = {0.001}> {
            mean = ReduceMean<keepdims=1>(x, axes)
            d = Sub(x, mean)
            square = Pow(d, two)
            variance = ReduceMean<keepdims=1>(square, axes)
            shifted = Add(variance, eps)
            deviation = Sqrt(shifted)
            y = Div(d, deviation)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2,4] x) => (float[2,4] y)
        <int64[1] axes = {0}, float two = {2.0}, float eps = {0.001}> {
            mean = ReduceMean<keepdims=1>(x, axes)
            d = Sub(x, mean)
            square = Pow(d, two)
            variance = ReduceMean<keepdims=1>(square, axes)
            shifted = Add(variance, eps)
            deviation = Sqrt(shifted)
            y = Div(d, deviation)
        }"""

    def patterns(self) -> list[Callable[..., Any]]:
        """The square as Pow, as PyTorch's exporters write it, or as a product."""
        return [_with_power, _with_product]

    def find(
        self,
        x: ir.Value,
        axes: ir.Value,
        axes2: ir.Value,
        epsilon: ir.Value,
        mean: ir.Value,
        variance: ir.Value,
        power: ir.Value | None = None,
        **_: Any,
    ) -> _Normalized | Declined:
        """The axis is the last one, the power is two, epsilon is constant."""
        shape = static_shape(x)
        if shape is None:
            return Declined("the input has no static shape")
        if not (over_last(axes, len(shape)) and over_last(axes2, len(shape))):
            return Declined("the mean is not over the last axis")
        if static_shape(mean) != (*shape[:-1], 1) or static_shape(variance) != (*shape[:-1], 1):
            return Declined("the reduced dimension is not kept")
        if power is not None and scalar_of(power) != 2.0:
            return Declined("the power is not two")
        number = scalar_of(epsilon)
        if number is None:
            return Declined("epsilon is not a scalar constant")
        return _Normalized(x, shape[-1], number)

    def replace(self, op: Any, found: _Normalized) -> ir.Value:
        """One node, gamma all ones."""
        gamma = constant(op, np.ones(found.columns, np.float32), "gamma")
        made: ir.Value = op.LayerNormalization(found.x, gamma, axis=-1, epsilon=found.epsilon)
        return made


def _with_power(op: Any, x: Any, axes: Any, axes2: Any, power: Any, epsilon: Any) -> Any:
    difference = op.Sub(x, op.ReduceMean(x, axes, _outputs=["mean"]))
    variance = op.ReduceMean(op.Pow(difference, power), axes2, _outputs=["variance"])
    return op.Div(difference, op.Sqrt(op.Add(variance, epsilon)))


def _with_product(op: Any, x: Any, axes: Any, axes2: Any, epsilon: Any) -> Any:
    difference = op.Sub(x, op.ReduceMean(x, axes, _outputs=["mean"]))
    variance = op.ReduceMean(op.Mul(difference, difference), axes2, _outputs=["variance"])
    return op.Div(difference, op.Sqrt(op.Add(variance, epsilon)))
