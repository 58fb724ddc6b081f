"""GELU's tanh form becomes one Gelu (opset 20): 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).

Source: Hendrycks & Gimpel 2016; ONNX Gelu, approximate="tanh".
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from vit_edge.host.rewrite.rule import Declined, PatternRule
from vit_edge.host.rewrite.values import scalar_of


class FuseGeluTanh(PatternRule[ir.Value]):
    """Pow (or Mul Mul), Mul, Add, Mul, Tanh, Add, Mul, Mul -> Gelu(approximate="tanh")."""

    COMMUTES = True
    NEEDS = "Tanh"
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2,3] x) => (float[2,3] y)
        <float three = {3.0}, float k = {0.044715}, float r = {0.7978845},
         float one = {1.0}, float half = {0.5}> {
            cube = Pow(x, three)
            a = Mul(cube, k)
            b = Add(x, a)
            c = Mul(b, r)
            d = Tanh(c)
            e = Add(d, one)
            f = Mul(x, half)
            y = Mul(f, e)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2,3] x) => (float[2,3] y)
        <float three = {3.0}, float k = {0.05}, float r = {0.7978845},
         float one = {1.0}, float half = {0.5}> {
            cube = Pow(x, three)
            a = Mul(cube, k)
            b = Add(x, a)
            c = Mul(b, r)
            d = Tanh(c)
            e = Add(d, one)
            f = Mul(x, half)
            y = Mul(f, e)
        }"""

    def patterns(self) -> list[Callable[..., Any]]:
        """The two ways to cube and the three orders of the factors."""
        return [
            functools.partial(spelling, order)
            for spelling in (_with_power, _with_products)
            for order in range(3)
        ]

    def find(
        self,
        x: ir.Value,
        k: ir.Value,
        root: ir.Value,
        one: ir.Value,
        half: ir.Value,
        power: ir.Value | None = None,
        **_: Any,
    ) -> ir.Value | Declined:
        """The input, where the constants are those of the tanh form."""
        expected = ((k, 0.044715), (root, math.sqrt(2.0 / math.pi)), (one, 1.0), (half, 0.5))
        for value, number in expected:
            given = scalar_of(value)
            if given is None or not math.isclose(given, number, rel_tol=1e-5):
                return Declined(f"a constant is {given}, GELU's tanh form has {number:.6g}")
        if power is not None and scalar_of(power) != 3.0:
            return Declined("the power is not three")
        return x

    def replace(self, op: Any, found: ir.Value) -> ir.Value:
        """One node."""
        made: ir.Value = op.Gelu(found, approximate="tanh")
        return made


def _with_power(order: int, op: Any, x: Any, power: Any, k: Any, root: Any, one: Any, half: Any) -> Any:
    return _spelled(op, x, op.Pow(x, power), (k, root, one, half), order)


def _with_products(order: int, op: Any, x: Any, k: Any, root: Any, one: Any, half: Any) -> Any:
    return _spelled(op, x, op.Mul(op.Mul(x, x), x), (k, root, one, half), order)


def _spelled(op: Any, x: Any, cube: Any, constants: tuple[Any, Any, Any, Any], order: int) -> Any:
    k, root, one, half = constants
    bracket = op.Add(op.Tanh(op.Mul(op.Add(x, op.Mul(cube, k)), root)), one)
    if order == 0:
        return op.Mul(op.Mul(x, bracket), half)
    return op.Mul(x, op.Mul(bracket, half)) if order == 1 else op.Mul(op.Mul(x, half), bracket)
