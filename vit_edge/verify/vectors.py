"""The gate for models of one embedding per image: the verdict of `verify.embeddings` as a gate's report.

What a report counts image by image, its agreement, is here the share of images whose embedding keeps the
cosine that all but 1 % must reach (`EmbeddingTolerance.min_cosine_tail`). The verdict is of all criteria.
"""

import dataclasses

import numpy as np

from vit_edge.gate_report import GateReport
from vit_edge.spec import EmbeddingTolerance, Tolerance
from vit_edge.verify.answers import as_choice
from vit_edge.verify.arrays import Booleans, Floats, Integers
from vit_edge.verify.copies import Scenes
from vit_edge.verify.embeddings import judge_embeddings
from vit_edge.verify.fidelity import ComparedOutput
from vit_edge.verify.gate import judge
from vit_edge.verify.quantile import TAIL


def judge_vectors(
    output: str,
    given: Floats,
    found: Floats,
    labels: Integers | None,
    tolerance: Tolerance,
    embeddings: EmbeddingTolerance,
    scenes: Scenes | None = None,
) -> GateReport:
    """Judge one model's embeddings against the float model's; every criterion is in `evidence.embeddings`.

    Args:
        output: what the model files call them.
        given: the float model's, (N, D).
        found: the other's, (N, D).
        labels: (N,) classes, or None.
        tolerance: of which the confidence holds, for both.
        embeddings: what is accepted.
        scenes: which images belong together, see `copies`.

    Raises:
        DatasetError: labels of another number.
        ModelError: embeddings of other shapes, not finite, or zero throughout.
    """
    compared = ComparedOutput.of(given, found)
    allowed = dataclasses.replace(embeddings, confidence=tolerance.confidence)
    own = judge_embeddings({output: compared}, labels, allowed, scenes)
    kept: Booleans = compared.likeness.cosines >= embeddings.min_cosine_tail
    counted = dataclasses.replace(tolerance, max_drop=embeddings.max_drop, max_changed=100.0 * TAIL)
    report = judge(as_choice(np.ones_like(kept)), as_choice(kept), None, counted, scenes=scenes)
    # the bet on probabilities is that of single labels, and so is the plan
    evidence = dataclasses.replace(report.evidence, mean_kl=None, expected=None, plan=None, embeddings=own)
    return dataclasses.replace(
        report,
        verdict=own.verdict,
        images_needed=own.images_needed,
        logit_sqnr_db=compared.likeness.fidelity.sqnr_db,
        evidence=evidence,
    )
