"""How close the embeddings of one form of a model lie to those of another."""

import numpy as np

from vit_edge.errors import ModelError
from vit_edge.gate_report import Fidelity
from vit_edge.verify.arrays import Floats
from vit_edge.verify.words import sqnr_db


def fidelity(reference: Floats, other: Floats) -> Fidelity:
    """Compare vectors with their references; sums are taken in float64.

    Args:
        reference: (..., D) floating point.
        other: the same shape.

    Raises:
        ModelError: shapes that differ, no vector, values that are not finite, or a reference that is zero.
    """
    if reference.shape != other.shape or reference.size == 0:
        raise ModelError(f"embeddings of shapes {reference.shape} and {other.shape} cannot be compared")
    dim = reference.shape[-1]
    expected, found = (values.reshape(-1, dim).astype(np.float64) for values in (reference, other))
    lengths = np.linalg.norm(expected, axis=1)
    if not (np.isfinite(expected).all() and np.isfinite(found).all()) or not lengths.all():
        raise ModelError("embeddings that are zero or not finite cannot be compared; check the export")
    products = np.sum(expected * found, axis=1)
    cosines = products / (lengths * np.maximum(np.linalg.norm(found, axis=1), np.finfo(np.float64).tiny))
    noise = float(np.sum((expected - found) ** 2))
    ratio = sqnr_db(float(np.sum(expected**2)), noise)
    return Fidelity(float(cosines.mean()), float(cosines.min()), ratio)
