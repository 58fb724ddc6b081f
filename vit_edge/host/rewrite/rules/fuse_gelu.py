"""GELU written out with Erf becomes one Gelu (opset 20): 0.5 * x * (1 + erf(x / sqrt 2)).

Source: Hendrycks & Gimpel 2016; ONNX Gelu, approximate="none".
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.rule import Declined, PatternRule
from vit_edge.host.rewrite.values import scalar_of


class FuseGelu(PatternRule[ir.Value]):
    """Div (or Mul), Erf, Add, Mul, Mul -> Gelu, whichever of the three factors are multiplied first."""

    COMMUTES = True
    NEEDS = "Erf"
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2,3] x) => (float[2,3] y) <float root = {1.4142135}, float one = {1.0}, float half = {0.5}> {
            a = Div(x, root)
            b = Erf(a)
            c = Add(b, one)
            d = Mul(x, c)
            y = Mul(d, half)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2,3] x) => (float[2,3] y) <float root = {1.0}, float one = {1.0}, float half = {0.5}> {
            a = Div(x, root)
            b = Erf(a)
            c = Add(b, one)
            d = Mul(x, c)
            y = Mul(d, half)
        }"""

    def patterns(self) -> list[Callable[..., Any]]:
        """The two ways to scale and the three orders of the factors."""
        return [functools.partial(_spelled, scale, order) for scale in ("Div", "Mul") for order in range(3)]

    def find(
        self,
        x: ir.Value,
        one: ir.Value,
        half: ir.Value,
        root: ir.Value,
        scaled: ir.Value,
        **_: Any,
    ) -> ir.Value | Declined:
        """The input, where the constants are those of GELU."""
        if not _near(scalar_of(one), 1.0) or not _near(scalar_of(half), 0.5):
            return Declined("the constants are not 1 and 0.5")
        expected = math.sqrt(2.0) if is_op(scaled, "Div") else math.sqrt(0.5)
        return x if _near(scalar_of(root), expected) else Declined("erf is not taken of x / sqrt(2)")

    def replace(self, op: Any, found: ir.Value) -> ir.Value:
        """One node."""
        made: ir.Value = op.Gelu(found, approximate="none")
        return made


def _near(value: float | None, expected: float) -> bool:
    return value is not None and math.isclose(value, expected, rel_tol=1e-5)


def _spelled(scale: str, order: int, op: Any, x: Any, root: Any, one: Any, half: Any) -> Any:
    scaled = getattr(op, scale)(x, root, _outputs=["scaled"])
    bracket = op.Add(op.Erf(scaled), one)
    if order == 0:
        return op.Mul(op.Mul(x, bracket), half)
    return op.Mul(x, op.Mul(bracket, half)) if order == 1 else op.Mul(op.Mul(x, half), bracket)
