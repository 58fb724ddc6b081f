"""Arrays in, verdict out: what changed between two models on the same images, and how surely."""

from vit_edge.gate_report import GateReport
from vit_edge.verify.alignment import find_renumbering
from vit_edge.verify.embeddings import judge_embeddings
from vit_edge.verify.flips import Flip, find_flips
from vit_edge.verify.gate import judge
from vit_edge.verify.kinds import find_changes, judge_kind
from vit_edge.verify.verdict import SequentialGate

__all__ = [
    "Flip",
    "GateReport",
    "SequentialGate",
    "find_changes",
    "find_flips",
    "find_renumbering",
    "judge",
    "judge_embeddings",
    "judge_kind",
]
