"""The whole examination of a model file on images, as far as numpy and onnxruntime go."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vit_edge.diagnosis import Code, Diagnosis
from vit_edge.errors import ModelError, UsageError
from vit_edge.progress import Step, silent
from vit_edge.runtime.doctor import answers
from vit_edge.runtime.doctor.accuracy import LEAST_IMAGES, PixelBaseline, below_expected, guessing
from vit_edge.runtime.doctor.examination import Examination, Subject
from vit_edge.runtime.doctor.places import positions_missing
from vit_edge.runtime.doctor.runs import Rival, Runner, Runs, run_all
from vit_edge.runtime.doctor.trials import Tested, input_findings, order_finding
from vit_edge.runtime.doctor.variants import Variant, variants_of
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.model.file import ModelFile, check_classifier
from vit_edge.runtime.session.session import DEFAULT_SETTINGS, SessionSettings
from vit_edge.spec import InputForm, OutputKind
from vit_edge.verify.arrays import Integers
from vit_edge.verify.orders import Candidate, candidates
from vit_edge.verify.trials import ERROR, Scored, adjusted, against, scored

_OF_VARIANTS = (
    Code.NORMALISATION,
    Code.CHANNEL_ORDER,
    Code.LAYOUT,
    Code.INTERPOLATION,
    Code.CROP,
    Code.IMAGE_SIZE,
    Code.FEW_TOKENS,
    Code.POOLING,
)
_OF_ACCURACY = (Code.BELOW_EXPECTED, Code.GUESSING, Code.NO_BETTER_THAN_PIXELS)
_FEW = "there are fewer than {} images"
_UNLABELLED = "the images have no labels"


@dataclasses.dataclass(frozen=True)
class DoctorSettings:
    """How an examination is made."""

    session: SessionSettings = DEFAULT_SETTINGS
    expect_top1: float | None = None
    """Percent that the float model must reach."""

    def __post_init__(self) -> None:
        """Refuse an accuracy that there is not."""
        if self.expect_top1 is not None and not 0 < self.expect_top1 <= 100:
            raise UsageError(f"--expect-top1 must be above 0 and at most 100 percent, got {self.expect_top1}")


def examine(
    model: ModelFile,
    images: ImageSet,
    settings: DoctorSettings | None = None,
    rivals: Sequence[Rival] = (),
    examination: Examination | None = None,
    progress: Step | None = None,
) -> Diagnosis:
    """Look for the known pitfalls.

    All significance tests of an examination are adjusted together after Holm, so that the chance of any false
    finding among them is at most 1 %.

    Args:
        model: a classifier that says how its images are preprocessed; of a bundle the float one.
        images: labelled or not; without labels less can be said, and the findings say so.
        settings: how.
        rivals: other forms of the model that the host has made.
        examination: what the host has found already.
        progress: told after each batch.

    Raises:
        ModelError: no classifier, or it says nothing of its preprocessing, or it fails.
        DatasetError: no image, or one that cannot be decoded.
        UsageError: an accuracy is expected, and there are no labels.
    """
    settings, examination = settings or DoctorSettings(), examination or Examination()
    check_classifier(model)
    if model.preprocess is None:
        raise ModelError(f"{model.path} does not say how images are preprocessed: state it, see --help")
    if settings.expect_top1 is not None and (images.targets is None or images.targets.ndim != 1):
        raise UsageError("--expect-top1 needs images with one label each: label them, or leave it out")
    runner = Runner(model, settings.session)
    stated = Variant(Code.NORMALISATION, "as stated", model.preprocess)
    single = model.output.task is OutputKind.SINGLE_LABEL
    variants = variants_of(model, model.preprocess) if single else []
    runs = run_all(runner, stated, variants, rivals if single else (), images, progress or silent(""))
    truth = runs.images.targets if single else None
    _answers(examination, model, runs, truth)
    _places(examination, runner, runs, stated)
    tests = _tested(examination, model, runs, truth, settings) if single else 0
    if not single:
        examination.skip(Code, f"is about models of one label per image, not of {model.output.value}")
    subject = Subject(model.path.name, len(runs.images), truth is not None)
    return examination.finished(subject, tests, ERROR)


def _answers(
    examination: Examination,
    model: ModelFile,
    runs: Runs,
    truth: Integers | None,
) -> None:
    """What the stated run shows by itself."""
    examination.looked((Code.SOFTMAX_TWICE, Code.SOFTMAX_MISSING), answers.softmax(model.output, runs.values))
    examination.looked((Code.DUPLICATE_LABELS,), answers.duplicates(model.labels))
    still = answers.constant(runs.logits, model.labels)
    dead = [each for each in still if each.code is Code.DEAD_CLASS]
    if truth is not None and not dead:
        still += answers.missed(runs.logits, truth, model.labels)
    examination.looked((Code.CONSTANT_ANSWER, Code.DEAD_CLASS), still)


def _places(examination: Examination, runner: Runner, runs: Runs, stated: Variant) -> None:
    found = positions_missing(runner, runs.pixels, stated)
    if found is None:
        examination.skip([Code.POSITIONS_MISSING], "the images do not tell, as all have the same answer")
    else:
        examination.looked([Code.POSITIONS_MISSING], found)


def _tested(
    examination: Examination,
    model: ModelFile,
    runs: Runs,
    truth: Integers | None,
    settings: DoctorSettings,
) -> int:
    """Everything that a significance test decides, all of them adjusted together; returns their number."""
    own = scored(runs.logits, truth)
    tried = [(variant, against(own, scored(logits, truth))) for variant, logits in runs.tried.items()]
    orders = [] if truth is None else candidates(model.labels, own.answers, truth, runs.logits.shape[1])
    ordered = [(each, against(*_reordered(each, own, truth))) for each in orders if truth is not None]
    enough = truth is not None and len(truth) >= LEAST_IMAGES
    baseline = PixelBaseline(runs.small, runs.logits, truth) if enough and truth is not None else None
    p_values = [trial.p for _, trial in (*tried, *ordered)] + ([] if baseline is None else [baseline.p])
    p_adjusted = adjusted(p_values)
    of_variants = [
        (variant, Tested(variant.name, trial, p))
        for (variant, trial), p in zip(tried, p_adjusted, strict=False)
    ]
    of_orders = [
        (candidate, Tested(candidate.name, trial, p))
        for (candidate, trial), p in zip(ordered, p_adjusted[len(tried) :], strict=False)
    ]
    _inputs(examination, model, runs, of_variants)
    _labels(examination, model, runs, truth, of_orders)
    _accuracy(examination, runs, truth, settings.expect_top1)
    if baseline is not None:
        examination.looked([Code.NO_BETTER_THAN_PIXELS], baseline.findings(p_adjusted[-1], ERROR))
    return len(p_values)


def _reordered(candidate: Candidate, own: Scored, truth: Integers) -> tuple[Scored, Scored]:
    """The stated way and an order of labels, on the images that the order was not found on."""
    rows = candidate.rows
    read = np.asarray(candidate.order)[own.answers[rows]]
    before = Scored(own.score[rows], own.answers[rows], True)
    return before, Scored((read == truth[rows]).astype(np.float64), read, True)


def _inputs(
    examination: Examination, model: ModelFile, runs: Runs, tested: list[tuple[Variant, Tested]]
) -> None:
    by_code = {code: [each for variant, each in tested if variant.code is code] for code in _OF_VARIANTS}
    if len(runs.images) < LEAST_IMAGES:
        examination.skip(_OF_VARIANTS, _FEW.format(LEAST_IMAGES))
        return
    if bool((np.ptp(runs.small, axis=-1) == 0).all()):
        by_code[Code.CHANNEL_ORDER] = []
        examination.skip([Code.CHANNEL_ORDER], "the images are grey, so that colours have no order")
    if model.form is InputForm.PIXELS:
        examination.skip([Code.NORMALISATION], "the file normalises inside: examine its float form")
    examination.skip([Code.IMAGE_SIZE], "the file takes one size")
    examination.skip([Code.INTERPOLATION, Code.CROP], "no other way changes these images")
    tried = {code: several for code, several in by_code.items() if several}
    examination.looked(tried, input_findings(tried))


def _labels(
    examination: Examination,
    model: ModelFile,
    runs: Runs,
    truth: Integers | None,
    tested: list[tuple[Candidate, Tested]],
) -> None:
    if truth is None or len(runs.images) < LEAST_IMAGES:
        reason = _UNLABELLED if truth is None else _FEW.format(LEAST_IMAGES)
        examination.skip([Code.LABEL_ORDER], reason)
    else:
        examination.looked([Code.LABEL_ORDER], order_finding(tested, model.labels))


def _accuracy(
    examination: Examination,
    runs: Runs,
    truth: Integers | None,
    expected: float | None,
) -> None:
    if truth is None or len(runs.images) < LEAST_IMAGES:
        examination.skip(_OF_ACCURACY, _UNLABELLED if truth is None else _FEW.format(LEAST_IMAGES))
        if truth is None:
            return
    else:
        examination.looked([Code.GUESSING], guessing(runs.logits, truth))
    if expected is None:
        examination.skip([Code.BELOW_EXPECTED], "no accuracy is expected: pass --expect-top1")
    else:
        right = runs.logits.argmax(axis=1) == truth
        examination.looked([Code.BELOW_EXPECTED], below_expected(right, expected))
