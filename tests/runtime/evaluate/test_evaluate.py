"""Evaluation and comparison over images: order, sharing of pixels, progress, and early refusals."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vit_edge.errors import DatasetError, ModelError, UsageError
from vit_edge.runtime.evaluate import answers as evaluation
from vit_edge.runtime.evaluate.answers import Subject, evaluate
from vit_edge.runtime.evaluate.compare import LEAST_SEQUENTIAL, compare
from vit_edge.runtime.evaluate.dataset import ImageSet, read_images
from vit_edge.runtime.evaluate.settings import CompareSettings
from vit_edge.runtime.image.limits import DecodeLimits
from vit_edge.runtime.model.file import ModelFile
from vit_edge.spec import Interpolation, PreprocessSpec, ResizeMode, Tolerance, Verdict

SPEC = PreprocessSpec(8, 8, ResizeMode.EXACT, (8, 8), Interpolation.NEAREST, (0.5,) * 3, (0.5,) * 3)
LARGER = dataclasses.replace(SPEC, height=16, width=16, resize=(16, 16))

RED_BLIND = ((1.0, 0.0, 0.0), (0.5, 0.0, 0.0), (0.0, 0.0, 1.0))  # takes red for green
GREEN_BLIND = ((1.0, 0.0, 0.0), (0.5, 0.0, 0.5), (0.0, 0.0, 1.0))  # never says green
COLOURS = ("red", "green", "blue")
ToyModel = Callable[..., ModelFile]


class BrightestChannel:
    """Logits are the mean of each channel: a red image is of class 0, a green one of 1, a blue one of 2."""

    def __init__(self, classes: int = 3) -> None:
        self.classes = classes
        self.seen: list[NDArray[np.uint8]] = []

    def run(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.seen.append(pixels)
        means = pixels.astype(np.float32).mean(axis=(1, 2))
        return np.pad(means, ((0, 0), (0, self.classes - 3)))


@pytest.fixture
def coloured(tmp_path: Path) -> ImageSet:
    """Seven plain images in three folders named by colour."""
    for index, label in enumerate([0, 0, 1, 1, 2, 2, 2]):
        pixels = np.zeros((12, 12, 3), np.uint8)
        pixels[..., label] = 100 + index
        folder = tmp_path / ("red", "green", "blue")[label]
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return read_images(tmp_path, ("red", "green", "blue"))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 50])
def test_rows_follow_the_images_whatever_the_batch_size(coloured: ImageSet, batch_size: int) -> None:
    runner = BrightestChannel()
    (logits,) = evaluate([Subject(runner, SPEC)], coloured, batch_size)
    assert logits.shape == (7, 3)
    np.testing.assert_array_equal(logits.argmax(axis=1), coloured.targets)
    assert [int(row.max()) - 100 for row in logits] == [int(path.stem) for path in coloured.paths]
    assert all(len(pixels) <= batch_size for pixels in runner.seen)


def test_each_image_is_decoded_once_and_equal_preprocessing_shares_the_pixels(
    coloured: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Path] = []

    def counting(path: Path, limits: DecodeLimits) -> Image.Image:
        assert limits is coloured.limits
        decoded.append(path)
        return Image.open(path).convert("RGB")

    monkeypatch.setattr(evaluation, "decode", counting)
    runners = [BrightestChannel() for _ in range(3)]
    specs = (SPEC, dataclasses.replace(SPEC), LARGER)
    evaluate([Subject(runner, spec) for runner, spec in zip(runners, specs, strict=True)], coloured, 4)
    assert decoded == list(coloured.paths)
    assert all(first is second for first, second in zip(runners[0].seen, runners[1].seen, strict=True))
    assert [pixels.shape for pixels in runners[2].seen] == [(4, 16, 16, 3), (3, 16, 16, 3)]


def test_progress_is_told_after_each_batch(coloured: ImageSet) -> None:
    told: list[tuple[int, int]] = []
    evaluate([Subject(BrightestChannel(), SPEC)], coloured, 3, lambda done, total: told.append((done, total)))
    assert told == [(3, 7), (6, 7), (7, 7)]


def test_an_image_that_cannot_be_decoded_is_named(coloured: ImageSet) -> None:
    coloured.paths[4].write_bytes(b"no image")
    with pytest.raises(DatasetError, match=rf"^{coloured.paths[4]} is no JPEG.*remove it"):
        evaluate([Subject(BrightestChannel(), SPEC)], coloured)


def test_models_of_different_classes_are_refused_after_the_first_batch(coloured: ImageSet) -> None:
    runners = [BrightestChannel(3), BrightestChannel(5)]
    with pytest.raises(ModelError, match="the models have 3 and 5 classes"):
        evaluate([Subject(runner, SPEC) for runner in runners], coloured, 2)
    assert len(runners[1].seen) == 1


def test_a_target_beyond_the_classes_is_refused_after_the_first_batch(coloured: ImageSet) -> None:
    runner = BrightestChannel()
    beyond = dataclasses.replace(coloured, targets=np.array([0, 0, 1, 1, 2, 2, 3]))
    with pytest.raises(DatasetError, match="has an image of class 3, but the model's classes are 0 to 2"):
        evaluate([Subject(runner, SPEC)], beyond, 2)
    assert len(runner.seen) == 1


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_size_below_one_is_refused(coloured: ImageSet, batch_size: int) -> None:
    with pytest.raises(UsageError, match="batch_size must be at least 1"):
        evaluate([Subject(BrightestChannel(), SPEC)], coloured, batch_size)


def test_a_comparison_runs_both_models_and_judges_them(coloured: ImageSet, toy_model: ToyModel) -> None:
    report = compare(
        toy_model("float.onnx"), toy_model("quant.onnx", RED_BLIND), coloured, Tolerance()
    ).report
    assert (report.n, report.top1_float, report.verdict) == (7, 100.0, Verdict.UNDECIDED)
    assert report.top1_quant == pytest.approx(100 * 5 / 7)
    assert report.agreement == pytest.approx(100 * 5 / 7)
    assert [(worst.label, worst.n, worst.drop) for worst in report.worst_classes] == [("red", 2, 100.0)]


def test_a_comparison_without_labels_judges_agreement(coloured: ImageSet, toy_model: ToyModel) -> None:
    blind = dataclasses.replace(coloured, targets=None)
    report = compare(toy_model("float.onnx"), toy_model("quant.onnx", RED_BLIND), blind, Tolerance()).report
    assert (report.top1_float, report.drop) == (None, None)
    assert report.agreement == pytest.approx(100 * 5 / 7)


def test_each_model_sees_the_pixels_of_its_own_preprocessing(coloured: ImageSet, toy_model: ToyModel) -> None:
    other = toy_model("quant.onnx", preprocess=LARGER, side=16)
    report = compare(
        toy_model("float.onnx"), other, coloured, Tolerance(), CompareSettings(batch_size=2)
    ).report
    assert report.agreement == 100.0


@pytest.mark.parametrize("bare", ["float", "quant"])
def test_a_model_without_metadata_takes_that_of_the_other(
    coloured: ImageSet, toy_model: ToyModel, bare: str
) -> None:
    models = {
        name: toy_model(
            f"{name}.onnx", RED_BLIND, **({"labels": None, "preprocess": None} if name == bare else {})
        )
        for name in ("float", "quant")
    }
    report = compare(models["float"], models["quant"], coloured, Tolerance()).report
    assert report.agreement == 100.0


def test_two_models_without_preprocessing_are_refused(coloured: ImageSet, toy_model: ToyModel) -> None:
    models = [toy_model(f"{name}.onnx", preprocess=None) for name in "ab"]
    with pytest.raises(ModelError, match=r"neither .*a.onnx nor .*b.onnx carries its preprocessing"):
        compare(models[0], models[1], coloured, Tolerance())


@pytest.mark.parametrize(
    ("weights", "labels", "message"),
    [
        (
            RED_BLIND,
            ("red", "blue", "green"),
            "have the same labels in another order, first in class 1 .'green' and 'blue'",
        ),
        (RED_BLIND, ("red", "lime", "blue"), "differ in their labels, first in class 1 .'green' and 'lime'"),
        (RED_BLIND[:2], ("red", "green"), "have 3 and 2 classes; compare two forms of one model"),
        (RED_BLIND[:2], None, "have 3 and 2 classes; compare two forms of one model"),
    ],
)
def test_models_of_different_classes_are_not_compared(
    coloured: ImageSet,
    toy_model: ToyModel,
    weights: tuple[tuple[float, ...], ...],
    labels: tuple[str, ...] | None,
    message: str,
) -> None:
    with pytest.raises(ModelError, match=message):
        compare(toy_model("a.onnx"), toy_model("b.onnx", weights, labels), coloured, Tolerance())


def test_a_model_that_cannot_take_the_only_preprocessing_there_is_is_named(
    coloured: ImageSet, toy_model: ToyModel
) -> None:
    larger = toy_model("larger.onnx", preprocess=None, side=16)
    message = (
        r"larger.onnx carries no preprocessing and takes \(16, 16\) pixels, but that of .*float.onnx makes"
    )
    with pytest.raises(ModelError, match=message):
        compare(toy_model("float.onnx"), larger, coloured, Tolerance())


def test_no_image_is_refused(toy_model: ToyModel) -> None:
    with pytest.raises(DatasetError, match="nothing holds no image"):
        compare(toy_model("a.onnx"), toy_model("b.onnx"), ImageSet("nothing", (), None), Tolerance())


@pytest.mark.parametrize("labels", [COLOURS, None])
def test_classes_in_another_order_are_told_by_behaviour(
    many_images: ImageSet, toy_model: ToyModel, labels: tuple[str, ...] | None
) -> None:
    turned = np.eye(3)[[2, 0, 1]].tolist()  # its class 0 is blue
    message = r"class \d .'(red|green|blue)'. of .*b.onnx behaves as class \d .* different orders"
    with pytest.raises(ModelError, match=message):
        compare(toy_model("a.onnx"), toy_model("b.onnx", turned, labels), many_images, Tolerance())


@pytest.mark.parametrize("settings", [CompareSettings(), CompareSettings(sequential=True)])
def test_a_comparison_keeps_the_logits_of_the_images_it_ran(
    many_images: ImageSet, toy_model: ToyModel, settings: CompareSettings
) -> None:
    comparison = compare(
        toy_model("float.onnx"), toy_model("quant.onnx", GREEN_BLIND), many_images, Tolerance(), settings
    )
    n = comparison.report.n
    assert len(comparison.images) == len(comparison.float_logits) == len(comparison.quant_logits) == n
    assert comparison.images.targets is not None
    np.testing.assert_array_equal(comparison.float_logits.argmax(axis=1), comparison.images.targets)
    assert [path.parent.name for path in comparison.images.paths] == [
        COLOURS[target] for target in comparison.images.targets
    ]
    assert (comparison.available, comparison.labels) == (300, COLOURS)
    assert comparison.report.evidence.sequential is settings.sequential


def test_flips_name_their_image_and_classes(coloured: ImageSet, toy_model: ToyModel) -> None:
    comparison = compare(toy_model("float.onnx"), toy_model("quant.onnx", RED_BLIND), coloured, Tolerance())
    first, second = comparison.to_json()["evidence"]["flips"]
    assert [Path(flip["image"]).name for flip in (first, second)] == ["0.png", "1.png"]
    assert first["label"] == "red"
    assert (first["float"][0]["label"], first["quant"][0]["label"]) == ("red", "green")
    assert all(
        sum(guess["probability"] for guess in first[model]) <= 1 + 1e-9 for model in ("float", "quant")
    )
    blind = dataclasses.replace(coloured, targets=None)
    unlabelled = compare(toy_model("float.onnx"), toy_model("quant.onnx", RED_BLIND), blind, Tolerance())
    assert [flip["label"] for flip in unlabelled.to_json()["evidence"]["flips"]] == [None, None]


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(
    ("weights", "max_drop", "verdict", "most"),
    [
        (np.eye(3).tolist(), 5.0, Verdict.PASS, 104),
        (GREEN_BLIND, 5.0, Verdict.FAIL, 48),
        (np.eye(3).tolist(), 1.0, Verdict.UNDECIDED, 300),
    ],
)
def test_a_sequential_comparison_stops_once_decided(
    many_images: ImageSet,
    toy_model: ToyModel,
    labelled: bool,
    weights: list[list[float]],
    max_drop: float,
    verdict: Verdict,
    most: int,
) -> None:
    images = many_images if labelled else dataclasses.replace(many_images, targets=None)
    report = compare(
        toy_model("float.onnx"),
        toy_model("quant.onnx", weights),
        images,
        Tolerance(max_drop, max_changed=max_drop),
        CompareSettings(sequential=True),
    ).report
    assert report.verdict is verdict
    assert LEAST_SEQUENTIAL <= report.n <= most
    if verdict is Verdict.UNDECIDED:
        assert report.n == 300
        assert report.evidence.plan is not None
        assert report.images_needed == report.evidence.plan.together


@pytest.mark.parametrize("sequential", [False, True])
def test_copies_count_once_however_images_are_taken(
    many_images: ImageSet, toy_model: ToyModel, sequential: bool
) -> None:
    """Six hundred would pass where three hundred do not."""
    twice = many_images.chosen(np.repeat(np.arange(300), 2))
    models = toy_model("float.onnx"), toy_model("quant.onnx")
    found = compare(*models, twice, Tolerance(1.0), CompareSettings(sequential=sequential))
    assert (found.report.n, found.report.verdict, found.available) == (300, Verdict.UNDECIDED, 600)
    assert found.copies is not None
    assert found.copies.left_out == 300


def test_images_said_to_be_independent_are_shown_and_not_grouped(tmp_path: Path, toy_model: ToyModel) -> None:
    random = np.random.default_rng(4)
    picture = random.integers(0, 200, (8, 8, 3))
    for index in range(10):
        noisy = np.clip(picture + random.integers(0, 6, (8, 8, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(tmp_path / f"{index}.png")
    images = read_images(tmp_path)
    models = toy_model("float.onnx"), toy_model("quant.onnx")
    grouped, apart = (
        compare(*models, images, Tolerance(), CompareSettings(independent=each)) for each in (False, True)
    )
    assert grouped.report.evidence.scenes == 1
    assert apart.report.evidence.scenes is None
    assert apart.copies is not None
    assert [len(group) for group in apart.copies.similar] == [10]
    assert grouped.report.evidence.disagreement_ci95[1] > apart.report.evidence.disagreement_ci95[1]


def test_the_random_order_is_that_of_the_seed(many_images: ImageSet, toy_model: ToyModel) -> None:
    models = toy_model("float.onnx"), toy_model("quant.onnx", GREEN_BLIND)
    orders = [
        compare(*models, many_images, Tolerance(), CompareSettings(sequential=True, seed=seed)).images.paths
        for seed in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert set(orders[0]) <= set(many_images.paths)
    assert len(set(orders[0])) == len(orders[0])


@pytest.mark.parametrize("sequential", [False, True])
def test_labels_that_the_float_model_knows_nothing_of_are_refused(
    many_images: ImageSet, toy_model: ToyModel, sequential: bool
) -> None:
    targets = many_images.targets
    assert targets is not None
    models = toy_model("float.onnx"), toy_model("quant.onnx")
    settings = CompareSettings(sequential=sequential)
    others = dataclasses.replace(many_images, targets=(targets + 1) % 3)
    message = r"float.onnx is right on 0 of \d+ images of many, no better than guessing among 3 classes"
    with pytest.raises(DatasetError, match=message):
        compare(*models, others, Tolerance(5.0), settings)
    weak = dataclasses.replace(many_images, targets=np.where(np.arange(300) % 2, targets, (targets + 1) % 3))
    assert compare(*models, weak, Tolerance(5.0), settings).report.verdict is Verdict.PASS


def test_a_handful_of_images_is_not_taken_for_guessing(coloured: ImageSet, toy_model: ToyModel) -> None:
    others = dataclasses.replace(coloured, targets=np.array([0, 0, 0, 0, 0, 0, 0]))
    assert compare(toy_model("a.onnx"), toy_model("b.onnx"), others, Tolerance()).report.n == 7


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(UsageError, match="seed must be 0 or more, got -1"):
        CompareSettings(seed=-1)
