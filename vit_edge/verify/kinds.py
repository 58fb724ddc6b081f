"""One way to judge models of any kind, by what their numbers mean."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_edge.gate_report import GateReport
from vit_edge.spec import OutputKind, Tolerance
from vit_edge.verify.answers import present
from vit_edge.verify.arrays import Floats
from vit_edge.verify.copies import Scenes
from vit_edge.verify.flips import Flip, Guess, find_flips
from vit_edge.verify.gate import judge
from vit_edge.verify.multi_label import judge_labels
from vit_edge.verify.values import judge_values


def judge_kind(
    kind: OutputKind,
    float_logits: Floats,
    quant_logits: Floats,
    truth: NDArray[Any] | None,
    tolerance: Tolerance,
    names: Sequence[str] | None = None,
    *,
    sequential: bool = False,
    scenes: Scenes | None = None,
) -> GateReport:
    """Judge what `as_logits` made of two models' numbers; see `judge`, `judge_labels` and `judge_values`.

    Args:
        kind: of the models.
        float_logits: (N, C).
        quant_logits: (N, C).
        truth: (N,) class indices, (N, C) bool, or (N, C) floating point, as the kind wants it; or None.
        tolerance: what is accepted.
        names: one per class or label.
        sequential: as for `judge`.
        scenes: as for `judge`.
    """
    if kind.task is OutputKind.MULTI_LABEL:
        return judge_labels(
            float_logits, quant_logits, truth, tolerance, names, sequential=sequential, scenes=scenes
        )
    if kind.task is OutputKind.REGRESSION:
        return judge_values(float_logits, quant_logits, truth, tolerance, scenes)
    return judge(float_logits, quant_logits, truth, tolerance, names, sequential=sequential, scenes=scenes)


def find_changes(
    kind: OutputKind, float_logits: Floats, quant_logits: Floats, k: int = 3
) -> tuple[Flip, ...]:
    """The images whose answer changed, with the likeliest of both; of values, vectors and maps none."""
    if kind.task in (OutputKind.REGRESSION, OutputKind.EMBEDDING, OutputKind.MAP):
        return ()
    if kind.task is OutputKind.SINGLE_LABEL:
        return find_flips(float_logits, quant_logits, k)
    rows = np.flatnonzero((present(float_logits) != present(quant_logits)).any(axis=1))
    return tuple(
        Flip(int(row), _likeliest(float_logits[row], k), _likeliest(quant_logits[row], k))
        for row in rows.tolist()
    )


def _likeliest(logits: Floats, k: int) -> tuple[Guess, ...]:
    best = np.argsort(-logits, kind="stable")[:k]
    chances = 0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64)))
    return tuple(Guess(int(index), float(chances[index])) for index in best)
