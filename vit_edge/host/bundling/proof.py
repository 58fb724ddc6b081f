"""What is measured on the images of a build: accuracy and latency."""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from vit_edge.errors import DatasetError, UsageError
from vit_edge.manifest import LatencyRecord
from vit_edge.progress import Progress, step_of
from vit_edge.runtime.evaluate.answers import Logits, Subject, evaluate
from vit_edge.runtime.evaluate.comparison import Comparison
from vit_edge.runtime.evaluate.compatible import accuracy_notes, check_expected
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.evaluate.looks import earlier_looks, remember
from vit_edge.runtime.evaluate.views import Distinct, Viewer, distinct
from vit_edge.runtime.measure.benchmark import BenchReport
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.session import Session, SessionSettings
from vit_edge.spec import OutputKind, Tolerance, Verdict
from vit_edge.verify import judge_kind
from vit_edge.verify.looks import Looked

Pixels = npt.NDArray[np.uint8]


class Gate:
    """The check images and the float model's answers on them, against which every other model is judged.

    Args:
        reference: the float model.
        images: labelled or not.
        threads: of every model; None leaves it to onnxruntime.
        progress: told how many images are done.
    """

    def __init__(
        self, reference: ModelFile, images: ImageSet, threads: int | None, progress: Progress
    ) -> None:
        self.reference, self.images, self.progress = reference, images, progress
        self.session = SessionSettings("cpu", threads=threads)
        self.logits: Logits | None = None
        self.kept: Distinct | None = None  # the images without copies, which `images` then holds
        self.looked: Looked = frozenset()
        self.notes: tuple[str, ...] = ()  # on the float model itself

    def judge(self, models: Sequence[ModelFile], tolerance: Tolerance) -> list[Comparison]:
        """Compare models with the float one, which runs once; each image is decoded once for all of them."""
        known = self.logits is not None
        subjects = [self._subject(model) for model in (*(() if known else (self.reference,)), *models)]
        viewer = Viewer()
        answers = evaluate(
            subjects,
            self.images,
            progress=step_of(self.progress, "check"),
            viewer=viewer,
        )
        if self.logits is None:
            self.kept = distinct(self.images, viewer.views(), answers[0])
            self.looked = frozenset(viewer.views().digests)
            self.images = self.images.chosen(self.kept.rows)
            self.logits, *answers = (each[self.kept.rows] for each in answers)
        return [self._compared(self.logits, given, tolerance) for given in answers]

    def check_float(self, expected: float | None, stated: float | None) -> None:
        """Run the float model, and see whether it is what it is said to be; see `check_expected`.

        Raises:
            DatasetError: an accuracy is expected, and the images are not labelled.
            ModelError: it is lower.
        """
        if self.logits is None:
            self.judge([], Tolerance())
        assert self.logits is not None  # noqa: S101  `judge` has set it
        if self.reference.output.task is not OutputKind.SINGLE_LABEL:
            if expected is not None:
                raise UsageError("--expect-top1 is about models of single labels only; leave it out")
            return
        check_expected(self.reference, self.images, self.logits, expected)
        self.notes = accuracy_notes(self.images, self.logits, stated)

    def remember(self, models: Sequence[ModelFile]) -> None:
        """Record that these were looked at, so that a later comparison allows for it."""
        for model in models:
            pair = self.reference.sha256, model.sha256
            remember(pair, tuple(dict.fromkeys([*earlier_looks(pair), self.looked])))

    def can_pass(self, tolerance: Tolerance) -> bool:
        """Whether these images are enough for a model to pass that answers just as the float one."""
        if self.logits is None:
            self.judge([], tolerance)
        assert self.logits is not None  # noqa: S101  `judge` has set it
        return self._compared(self.logits, self.logits, tolerance).report.verdict is Verdict.PASS

    def _compared(self, reference: Logits, given: Logits, tolerance: Tolerance) -> Comparison:
        names = self.reference.labels
        assert self.kept is not None  # noqa: S101  `judge` has set it
        scenes = self.kept.scenes
        kind, truth = self.reference.output.task, self.images.targets
        report = judge_kind(kind, reference, given, truth, tolerance, names, scenes=scenes)
        copies, images = self.kept.copies, self.images
        available = len(images) + copies.left_out
        return Comparison(
            report, images, available, names, reference, given, copies, notes=self.notes, kind=kind
        )

    def _subject(self, model: ModelFile) -> Subject:
        if model.preprocess is None:
            raise DatasetError(f"{model.path} does not say how images are preprocessed; export it again")
        return Subject(Session(model, self.session), model.preprocess, model.output)


def latency_records(
    names: Sequence[str], report: BenchReport, elsewhere: Collection[str] = ()
) -> tuple[LatencyRecord, ...]:
    """The manifest's latency figures, models named by their paths in the bundle.

    Args:
        names: of the models in the report.
        report: from the benchmark.
        elsewhere: of these, the ones for devices of another kind than this machine.
    """
    return tuple(
        LatencyRecord(
            path=name,
            providers=entry.providers,
            threads=entry.threads,
            batch=entry.batch,
            min_ms=entry.latency.min_ms,
            median_ms=entry.latency.median_ms,
            p95_ms=entry.latency.p95_ms,
            peak_rss_mb=entry.peak_rss_mb,
            size_mb=entry.size_mb,
            ratio_to_float=ratio.median,
            timed_on_its_device=name not in elsewhere,
            machine=report.machine.cpu,
            environment=report.machine,
            ratio_interval=ratio.interval,
        )
        for name, entry, ratio in zip(names, report.models, report.ratios, strict=True)
    )
