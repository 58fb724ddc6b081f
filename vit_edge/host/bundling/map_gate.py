"""The gate of a build for models of maps: every other model's maps against the float model's."""

from collections.abc import Sequence

from vit_edge.errors import DatasetError, UsageError
from vit_edge.host.bundling.proof import Gate
from vit_edge.progress import step_of
from vit_edge.runtime.evaluate.comparison import Comparison
from vit_edge.runtime.evaluate.maps import MapSubject, evaluate_maps, map_subject
from vit_edge.runtime.evaluate.truth.read import truth_notes
from vit_edge.runtime.evaluate.views import Viewer, distinct
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.session import Session
from vit_edge.spec import OutputKind, Tolerance, Verdict
from vit_edge.verify.maps import MapChanges, changed_maps, judge_maps
from vit_edge.verify.scores import Scores
from vit_edge.verify.truth import judge_truth


class MapGate(Gate):
    """As `Gate`; maps are too large to keep, so the float model runs again beside each that is judged."""

    own: tuple[MapChanges, ...] = ()  # of the float model against itself, on the images without copies
    scores: Scores | None = None  # of the float model against truth, on the same

    def judge(self, models: Sequence[ModelFile], tolerance: Tolerance) -> list[Comparison]:
        """Compare models with the float one; each image is decoded once for all of them."""
        reference = self._map_subject(self.reference)
        others = [self._map_subject(model) for model in models]
        first, viewer = self.kept is None, Viewer()
        step = step_of(self.progress, "check")
        asked = [reference, *others] if first else others
        found = evaluate_maps(reference, asked, self.images, progress=step, viewer=viewer)
        changes = list(found.changes)
        scores: list[Scores | None] = [*found.scores[1:]] or [None] * len(asked)
        if first:
            self.kept = distinct(self.images, viewer.views(), found.outlines)
            self.looked = frozenset(viewer.views().digests)
            rows = self.kept.rows
            self.images = self.images.chosen(rows)
            self.own, *changes = (tuple(each.at(rows) for each in model) for model in changes)
            self.scores, *scores = (None if each is None else each.at(rows) for each in scores)
        return [self._judged(*each, tolerance) for each in zip(changes, scores, strict=True)]

    def check_float(self, expected: float | None, stated: float | None) -> None:
        """Run the float model; maps have no accuracy that could be expected.

        Raises:
            UsageError: one is expected.
        """
        del stated
        if expected is not None:
            raise UsageError("--expect-top1 is about models of single labels only; leave it out")
        if self.kept is None:
            self.judge([], Tolerance())

    def can_pass(self, tolerance: Tolerance) -> bool:
        """Whether these images are enough for a model to pass that gives the float model's own maps."""
        if self.kept is None:
            self.judge([], tolerance)
        return self._judged(self.own, self.scores, tolerance).report.verdict is Verdict.PASS

    def _judged(
        self, changes: Sequence[MapChanges], scores: Scores | None, tolerance: Tolerance
    ) -> Comparison:
        assert self.kept is not None  # noqa: S101  `judge` has set it
        report = judge_maps(changes, tolerance, scenes=self.kept.scenes)
        if self.scores is not None and scores is not None:
            pair = self.scores, scores
            report = judge_truth(report, pair, self.reference.labels, self.kept.scenes)
        same, changed = changed_maps(changes, tolerance.maps)
        available = len(self.images) + self.kept.copies.left_out
        names, copies = self.reference.labels, self.kept.copies
        return Comparison(
            report,
            self.images,
            available,
            names,
            same,
            changed,
            copies,
            notes=truth_notes(self.images),
            kind=OutputKind.MAP,
        )

    def _map_subject(self, model: ModelFile) -> MapSubject:
        if model.preprocess is None:
            raise DatasetError(f"{model.path} does not say how images are preprocessed; export it again")
        return map_subject(model, self.reference, Session(model, self.session), model.preprocess)
