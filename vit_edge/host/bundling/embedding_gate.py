"""The gate of a build for embedding models: every other model's vectors against the float model's."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vit_edge.errors import ModelError, UsageError
from vit_edge.host.bundling.proof import Gate
from vit_edge.progress import Progress, step_of
from vit_edge.runtime.evaluate.answers import Logits, evaluate
from vit_edge.runtime.evaluate.comparison import Comparison
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.evaluate.views import Viewer, distinct
from vit_edge.runtime.model.file import ModelFile
from vit_edge.spec import EmbeddingTolerance, OutputKind, Tolerance, Verdict
from vit_edge.verify.copies import find_scenes_by_embeddings
from vit_edge.verify.vectors import judge_vectors

_UNIT = 1e-3  # that a length may differ from 1 by


class EmbeddingGate(Gate):
    """As `Gate`, by the criteria of embeddings; labels say which images are of one class.

    Args:
        reference: the float model.
        images: labelled or not.
        threads: of every model; None leaves it to onnxruntime.
        progress: told how many images are done.
        embeddings: what is accepted.
    """

    def __init__(
        self,
        reference: ModelFile,
        images: ImageSet,
        threads: int | None,
        progress: Progress,
        embeddings: EmbeddingTolerance,
    ) -> None:
        super().__init__(reference, images, threads, progress)
        self.embeddings = embeddings
        self.vectors: Logits | None = None  # of the float model, (N, D) of the images without copies

    def judge(self, models: Sequence[ModelFile], tolerance: Tolerance) -> list[Comparison]:
        """Compare models with the float one, which runs once; each image is decoded once for all of them."""
        first, viewer = self.vectors is None, Viewer()
        subjects = [self._subject(model) for model in (*((self.reference,) if first else ()), *models)]
        bare = dataclasses.replace(self.images, targets=None)  # which are no indices of what the models give
        made = evaluate(subjects, bare, progress=step_of(self.progress, "check"), viewer=viewer)
        if first:
            self.kept = distinct(self.images, viewer.views(), made[0], find=find_scenes_by_embeddings)
            self.looked = frozenset(viewer.views().digests)
            self.images = self.images.chosen(self.kept.rows)
            self.vectors, *made = (each[self.kept.rows] for each in made)
        assert self.vectors is not None  # noqa: S101  set above
        return [self._compared(self.vectors, given, tolerance) for given in made]

    def check_float(self, expected: float | None, stated: float | None) -> None:
        """Run the float model; embeddings have no accuracy that could be expected.

        Raises:
            UsageError: one is expected.
            ModelError: its vectors are said to have length 1, and have another.
        """
        del stated
        if expected is not None:
            raise UsageError("--expect-top1 is about models of single labels only; leave it out")
        if self.vectors is None:
            self.judge([], Tolerance())
        assert self.vectors is not None  # noqa: S101  `judge` has set it
        lengths = np.linalg.norm(self.vectors.astype(np.float64), axis=1)
        if self.reference.output is OutputKind.UNIT_EMBEDDING and np.abs(lengths - 1.0).max() > _UNIT:
            raise ModelError(
                f"{self.reference.path.name} is said to give vectors of length 1, but they have "
                f"{lengths.min():.3g} to {lengths.max():.3g}: state --output-kind "
                f"{OutputKind.EMBEDDING.value}"
            )

    def can_pass(self, tolerance: Tolerance) -> bool:
        """Whether these images are enough for a model to pass that gives the float model's own vectors."""
        if self.vectors is None:
            self.judge([], tolerance)
        assert self.vectors is not None  # noqa: S101  `judge` has set it
        judged = self._compared(self.vectors, self.vectors, tolerance)
        return judged.report.verdict is Verdict.PASS

    def _compared(self, reference: Logits, given: Logits, tolerance: Tolerance) -> Comparison:
        assert self.kept is not None  # noqa: S101  `judge` has set it
        name, images, copies = self.reference.output.output_name, self.images, self.kept.copies
        report = judge_vectors(
            name, reference, given, images.targets, tolerance, self.embeddings, self.kept.scenes
        )
        available = len(images) + copies.left_out
        kind = OutputKind.EMBEDDING
        return Comparison(report, images, available, None, reference, given, copies, kind=kind)
