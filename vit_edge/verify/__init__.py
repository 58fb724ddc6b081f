"""Arrays in, verdict out: what changed between two models on the same images, and how surely."""

from vit_edge.verify.gate import GateReport, judge

__all__ = ["GateReport", "judge"]
