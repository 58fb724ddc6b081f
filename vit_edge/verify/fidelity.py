"""How close the embeddings of one form of a model lie to those of another."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vit_edge.embedding_report import Fidelity
from vit_edge.errors import ModelError
from vit_edge.verify.arrays import Floats
from vit_edge.verify.words import sqnr_db

Reals = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Likeness:
    """Of each image's vectors to their references, without the vectors themselves."""

    cosines: Reals  # (N,) mean over the image's vectors
    least: Reals  # (N,) cosine of the vector that lies furthest off
    signal: Reals  # (N,) sum of squares of the references
    noise: Reals  # (N,) the same of the differences

    @classmethod
    def joined(cls, parts: Sequence["Likeness"]) -> "Likeness":
        """Of the images of all parts, one after another."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def at(self, rows: NDArray[np.intp]) -> "Likeness":
        """Of some of the images."""
        return Likeness(self.cosines[rows], self.least[rows], self.signal[rows], self.noise[rows])

    @property
    def fidelity(self) -> Fidelity:
        """Over all images.

        Raises:
            ModelError: all references are zero.
        """
        if not self.signal.any():
            raise ModelError("embeddings that are all zero cannot be compared; check the export")
        ratio = sqnr_db(float(self.signal.sum()), float(self.noise.sum()))
        return Fidelity(float(self.cosines.mean()), float(self.least.min()), ratio)


@dataclasses.dataclass(frozen=True, eq=False)
class ComparedOutput:
    """One output of two embedders on the same images."""

    likeness: Likeness
    vectors: tuple[Floats, Floats] | None
    """(N, D) of the reference and of the other; None where an image has more than one."""

    @classmethod
    def of(cls, reference: Floats, other: Floats) -> "ComparedOutput":
        """Compare (N, D), or (N, rows, columns, D) of patches, with the same of the model that is judged.

        Raises:
            ModelError: other shapes, or values that are not finite.
        """
        return cls(likeness(reference, other), (reference, other) if reference.ndim == 2 else None)

    @classmethod
    def joined(cls, parts: Sequence["ComparedOutput"]) -> "ComparedOutput":
        """Of the images of all parts, one after another."""
        vectors = [part.vectors for part in parts if part.vectors is not None]
        whole = (
            (np.concatenate([v[0] for v in vectors]), np.concatenate([v[1] for v in vectors]))
            if vectors
            else None
        )
        return cls(Likeness.joined([part.likeness for part in parts]), whole)

    def at(self, rows: NDArray[np.intp]) -> "ComparedOutput":
        """Of some of the images."""
        vectors = None if self.vectors is None else (self.vectors[0][rows], self.vectors[1][rows])
        return ComparedOutput(self.likeness.at(rows), vectors)


def fidelity(reference: Floats, other: Floats) -> Fidelity:
    """Compare vectors with their references, over all images.

    Args:
        reference: (N, ..., D) floating point.
        other: the same shape.

    Raises:
        ModelError: as `likeness`.
    """
    return likeness(reference, other).fidelity


def likeness(reference: Floats, other: Floats) -> Likeness:
    """Compare each image's vectors with their references; sums are taken in float64.

    A vector that is zero is like another that is zero, and like nothing else.

    Args:
        reference: (N, ..., D) floating point, as many vectors for each image.
        other: the same shape.

    Raises:
        ModelError: shapes that differ, no vector, or values that are not finite.
    """
    if reference.shape != other.shape or reference.size == 0:
        raise ModelError(f"embeddings of shapes {reference.shape} and {other.shape} cannot be compared")
    images, dim = len(reference), reference.shape[-1]
    expected, found = (values.reshape(images, -1, dim).astype(np.float64) for values in (reference, other))
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        raise ModelError("embeddings that are not finite cannot be compared; check the export")
    lengths = np.linalg.norm(expected, axis=2), np.linalg.norm(found, axis=2)
    products, scale = np.sum(expected * found, axis=2), lengths[0] * lengths[1]
    same = ((lengths[0] == 0) & (lengths[1] == 0)).astype(np.float64)
    cosines = np.where(scale > 0, products / np.where(scale > 0, scale, 1.0), same)
    return Likeness(
        cosines.mean(axis=1),
        cosines.min(axis=1),
        np.sum(expected**2, axis=(1, 2)),
        np.sum((expected - found) ** 2, axis=(1, 2)),
    )
