"""Remove the guard that SDPA exports put behind Softmax: Where(IsNaN(p), 0, p) is p.

A row of Softmax is NaN only where every score of the row is -inf (a fully masked row) or a score is NaN. The
rule fires when the scores carry no mask, so only a NaN input could tell the difference.
"""

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.rule import Declined, PatternRule, producer_of
from vit_edge.host.rewrite.values import constant_of, integer, scalar_of


class RemoveSoftmaxGuard(PatternRule[tuple[ir.Value, int]]):
    """Where(IsNaN(Softmax(s)), 0, Softmax(s)) -> Softmax(s)."""

    NEEDS = "IsNaN"
    FIRES = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2,3] s) => (float[2,3] y) <float zero = {0.0}> {
            p = Softmax<axis=-1>(s)
            bad = IsNaN(p)
            y = Where(bad, zero, p)
        }"""
    HOLDS = """<ir_version: 10, opset_import: ["": 20]>
        g (float[2,3] s, float[2,3] mask) => (float[2,3] y) <float zero = {0.0}> {
            masked = Add(s, mask)
            p = Softmax<axis=-1>(masked)
            bad = IsNaN(p)
            y = Where(bad, zero, p)
        }"""

    def patterns(self) -> list[Callable[..., Any]]:
        """The guard as PyTorch's exporter writes it."""
        return [_guarded]

    def find(
        self, scores: ir.Value, zero: ir.Value, probabilities: ir.Value, **_: Any
    ) -> tuple[ir.Value, int] | Declined:
        """(the scores, the axis), where the replacement is 0 and no mask can make a row -inf."""
        if scalar_of(zero) != 0.0:
            return Declined("the value put in place of NaN is not 0")
        node = scores.producer()
        if is_op(node, "Add") and node is not None:
            constants = [constant_of(value) for value in node.inputs]
            if not any(array is not None and bool((array > -1e30).all()) for array in constants):
                return Declined("the scores carry a mask, which can make a whole row -inf")
        return scores, integer(producer_of(probabilities), "axis", -1)

    def replace(self, op: Any, found: tuple[ir.Value, int]) -> ir.Value:
        """Softmax alone."""
        scores, axis = found
        made: ir.Value = op.Softmax(scores, axis=axis)
        return made


def _guarded(op: Any, scores: Any, zero: Any) -> Any:
    probabilities = op.Softmax(scores, _outputs=["probabilities"])
    return op.Where(op.IsNaN(probabilities), zero, probabilities)
