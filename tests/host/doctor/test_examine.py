"""A sound model gives no finding; each fault of input, labels and answers is named, and no other is."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.host.doctor.conftest import in_folders
from tests.host.doctor.damage import (
    behind_output,
    head_of,
    interleaved_input,
    one_colour,
    table_of,
    transposed_input,
    written,
)
from tools.digits import LABELS
from vit_edge.diagnosis import Code, Diagnosis, Severity
from vit_edge.errors import ModelError, UsageError
from vit_edge.runtime.doctor.examine import DoctorSettings, examine
from vit_edge.runtime.evaluate.dataset import ImageSet
from vit_edge.runtime.model.file import ModelFile
from vit_edge.runtime.session.session import SessionSettings
from vit_edge.spec import CropRule, Interpolation, OutputKind, PreprocessSpec, ResizeMode

SESSION = SessionSettings("cpu", threads=1)


def examined(model: ModelFile, images: ImageSet, expect_top1: float | None = None) -> Diagnosis:
    return examine(model, images, DoctorSettings(SESSION, expect_top1))


def codes(found: Diagnosis) -> list[Code]:
    return [each.code for each in found.findings]


def stated(model: ModelFile, **changes: object) -> ModelFile:
    assert model.preprocess is not None
    spec = dataclasses.replace(model.preprocess, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(model, preprocess=spec)


def without_labels(images: ImageSet) -> ImageSet:
    return dataclasses.replace(images, targets=None)


def test_a_sound_model_gives_no_finding(sound: onnx.ModelProto, images: ImageSet, tmp_path: Path) -> None:
    found = examined(written(sound, tmp_path / "m.onnx"), images, expect_top1=98)
    assert found.findings == ()
    assert found.sound
    assert {Code.NORMALISATION, Code.LABEL_ORDER, Code.POSITIONS_MISSING, Code.BELOW_EXPECTED} <= set(
        found.clear
    )
    reasons = {each.code: each.reason for each in found.not_checked}
    assert "grey" in reasons[Code.CHANNEL_ORDER]
    assert "one size" in reasons[Code.IMAGE_SIZE]
    assert "vit-edge[host]" in reasons[Code.DEAD_HEAD]
    assert Diagnosis.from_json(found.to_json()) == found


def test_a_sound_model_gives_no_finding_without_labels_either(
    sound: onnx.ModelProto, images: ImageSet, tmp_path: Path
) -> None:
    found = examined(written(sound, tmp_path / "m.onnx"), without_labels(images))
    assert found.findings == ()
    assert Code.NORMALISATION in found.clear
    reasons = {each.code: each.reason for each in found.not_checked}
    assert reasons[Code.LABEL_ORDER] == reasons[Code.GUESSING] == "the images have no labels"


@pytest.mark.parametrize("labelled", [True, False])
def test_pixels_of_0_to_255_are_named(
    labelled: bool, sound: onnx.ModelProto, images: ImageSet, tmp_path: Path
) -> None:
    """The model was trained on (pixel / 255 - 0.5) / 0.5, and is fed (pixel - 0.5) / 0.5."""
    model = stated(written(sound, tmp_path / "m.onnx"), mean=(0.5 / 255,) * 3, std=(0.5 / 255,) * 3)
    found = examined(model, images if labelled else without_labels(images))
    finding = next(each for each in found.findings if each.code is Code.NORMALISATION)
    assert "mean and std 0.5:" in finding.what or "mean and std" in finding.what
    assert finding.severity is (Severity.ERROR if labelled else Severity.WARNING)
    assert ("guess" in finding.what) is not labelled
    assert found.sound is not labelled


@pytest.mark.parametrize(("channel", "named"), [(0, False), (2, True)])
def test_colours_in_another_order_are_named(
    channel: int, named: bool, sound: onnx.ModelProto, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """The digit is in red and noise elsewhere: a model that reads blue first sees noise."""
    pixels, labels = digits
    noise = np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint8)
    noise[..., 0] = pixels[..., 0]
    images = in_folders(tmp_path / "coloured", noise, labels)
    found = examined(written(sound, tmp_path / "m.onnx", one_colour(channel)), images)
    assert (Code.CHANNEL_ORDER in codes(found)) is named
    assert found.sound is not named


@pytest.mark.parametrize("change", [transposed_input, interleaved_input])
def test_another_layout_is_named(
    change: object, sound: onnx.ModelProto, images: ImageSet, tmp_path: Path
) -> None:
    found = examined(written(sound, tmp_path / "m.onnx", change), images)  # type: ignore[arg-type]
    finding = next(each for each in found.findings if each.code is Code.LAYOUT)
    assert finding.severity is Severity.ERROR
    assert ("rows and columns" in finding.what) is (change is transposed_input)


def test_a_filter_that_picks_single_pixels_is_named_on_noisy_images(
    sound: onnx.ModelProto, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    pixels, labels = digits
    large = pixels.repeat(6, axis=1).repeat(6, axis=2).astype(np.int16)
    noise = np.random.default_rng(0).normal(0, 110, large.shape[:3])[..., None]
    noisy = np.clip(large + noise, 0, 255).astype(np.uint8)
    images = in_folders(tmp_path / "noisy", noisy, labels)
    model = stated(written(sound, tmp_path / "m.onnx"), interpolation=Interpolation.NEAREST)
    assert Code.INTERPOLATION in codes(examined(model, images))
    good = stated(written(sound, tmp_path / "m.onnx"), interpolation=Interpolation.BICUBIC)
    assert Code.INTERPOLATION in examined(good, images).clear


def test_a_squeezed_image_is_named(
    sound: onnx.ModelProto, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """Digits in the middle of images twice as wide, which the recipe squeezes into a square."""
    pixels, labels = digits
    wide = np.zeros((len(pixels), 32, 80, 3), np.uint8)
    wide[:, :, 24:56] = pixels
    images = in_folders(tmp_path / "wide", wide, labels)
    model = written(sound, tmp_path / "m.onnx")
    finding = next(each for each in examined(model, images).findings if each.code is Code.CROP)
    assert "short side to 32" in finding.what
    cropped = stated(model, resize_mode=ResizeMode.SHORT_SIDE, resize=(32, 32), crop=CropRule.TORCHVISION)
    assert Code.CROP in examined(cropped, images).clear


@pytest.mark.parametrize(
    "rows", [lambda table: 0 * table, lambda table: 0 * table + table[3]], ids=["zeroed", "all the same"]
)
def test_missing_positions_are_named(
    rows: object, sound: onnx.ModelProto, images: ImageSet, tmp_path: Path
) -> None:
    found = examined(written(sound, tmp_path / "m.onnx", table_of(rows)), images)  # type: ignore[arg-type]
    finding = next(each for each in found.findings if each.code is Code.POSITIONS_MISSING)
    assert finding.severity is Severity.ERROR
    assert "8x8" in finding.what  # the model's own patches


@pytest.mark.parametrize(
    ("order", "name"),
    [
        (range(9, -1, -1), "reversed"),
        ([9, *range(9)], "shifted"),
        ([3, 7, 0, 9, 1, 5, 8, 2, 6, 4], "as the images say"),
        (sorted(range(10), key=lambda each: LABELS[each]), "sorted by name"),
    ],
)
def test_labels_in_another_order_are_named_and_the_order_is_proposed(
    order: object, name: str, sound: onnx.ModelProto, images: ImageSet, tmp_path: Path
) -> None:
    places = list(order)  # type: ignore[call-overload]
    found = examined(written(sound, tmp_path / "m.onnx", head_of(lambda rows: rows[places])), images)
    finding = next(each for each in found.findings if each.code is Code.LABEL_ORDER)
    assert finding.severity is Severity.ERROR
    assert name in finding.what
    assert list(finding.order) == places
    assert {Code.NORMALISATION, Code.LAYOUT} <= set(found.clear)


def test_a_class_that_never_wins_is_named(sound: onnx.ModelProto, images: ImageSet, tmp_path: Path) -> None:
    def without_three(rows: np.ndarray) -> np.ndarray:
        rows[3] = 0
        rows[3, -1] = -20
        return rows

    found = examined(written(sound, tmp_path / "m.onnx", head_of(without_three)), images)
    finding = next(each for each in found.findings if each.code is Code.DEAD_CLASS)
    assert "class 3 ('three')" in finding.what
    assert Code.CONSTANT_ANSWER in found.clear


def test_a_model_that_sees_nothing_is_named(sound: onnx.ModelProto, images: ImageSet, tmp_path: Path) -> None:
    def bias_alone(rows: np.ndarray) -> np.ndarray:
        rows[:, :-1] = 0
        rows[:, -1] = np.arange(10)
        return rows

    found = examined(written(sound, tmp_path / "m.onnx", head_of(bias_alone)), images)
    assert Code.CONSTANT_ANSWER in codes(found)
    assert Code.GUESSING in codes(found)
    assert Code.POSITIONS_MISSING not in codes(found)  # nothing can be said of places then


def test_a_float_model_that_is_wrong_is_no_matter_of_quantization(
    sound: onnx.ModelProto, images: ImageSet, tmp_path: Path
) -> None:
    mixed_up = head_of(lambda rows: rows[[1, 2, 3, 4, 5, 6, 0, 7, 8, 9]])
    found = examined(written(sound, tmp_path / "m.onnx", mixed_up), images, expect_top1=98)
    wrong = {each.code: each for each in found.findings}
    assert {Code.BELOW_EXPECTED, Code.NO_BETTER_THAN_PIXELS} <= set(wrong)
    assert all(
        wrong[code].severity is Severity.ERROR for code in (Code.BELOW_EXPECTED, Code.NO_BETTER_THAN_PIXELS)
    )
    assert "not the quantization" in wrong[Code.BELOW_EXPECTED].mend
    assert not found.sound


@pytest.mark.parametrize(("operators", "named"), [(["Softmax"], False), (["Softmax", "Softmax"], True)])
def test_a_second_softmax_is_named(
    operators: list[str], named: bool, sound: onnx.ModelProto, images: ImageSet, tmp_path: Path
) -> None:
    def change(model: onnx.ModelProto) -> None:
        behind_output(model, operators)

    found = examined(written(sound, tmp_path / "m.onnx", change), images.first(40))
    assert (Code.SOFTMAX_TWICE in codes(found)) is named


def test_logits_that_are_taken_for_probabilities_are_named(
    sound: onnx.ModelProto, images: ImageSet, tmp_path: Path
) -> None:
    model = written(sound, tmp_path / "m.onnx")
    wrong = dataclasses.replace(model, output=OutputKind.SINGLE_LABEL_PROBABILITIES)
    found = examined(wrong, images.first(40))
    assert Code.SOFTMAX_MISSING in codes(found)


def test_names_that_two_classes_bear_are_shown_with_their_index(
    sound: onnx.ModelProto, images: ImageSet, tmp_path: Path
) -> None:
    model = written(sound, tmp_path / "m.onnx")
    named = dataclasses.replace(model, labels=("crane", *LABELS[1:7], "Crane", *LABELS[8:]))
    found = examined(named, images.first(8))
    finding = next(each for each in found.findings if each.code is Code.DUPLICATE_LABELS)
    assert "'crane' is class 0 and 7" in finding.what
    assert finding.severity is Severity.NOTE
    assert found.sound


def test_few_images_leave_open_what_they_cannot_show(
    sound: onnx.ModelProto, images: ImageSet, tmp_path: Path
) -> None:
    model = stated(written(sound, tmp_path / "m.onnx"), mean=(0.0,) * 3, std=(1 / 255,) * 3)
    found = examined(model, images.first(10))
    reasons = {each.code: each.reason for each in found.not_checked}
    assert reasons[Code.NORMALISATION] == reasons[Code.LABEL_ORDER] == "there are fewer than 30 images"


def test_copies_of_an_image_count_once(sound: onnx.ModelProto, images: ImageSet, tmp_path: Path) -> None:
    model = written(sound, tmp_path / "m.onnx")
    again = images.chosen(np.repeat(np.arange(6), 8))
    assert examined(model, again).images == 6


def test_an_accuracy_cannot_be_expected_without_labels(
    sound: onnx.ModelProto, images: ImageSet, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="--expect-top1 needs images with one label each"):
        examined(written(sound, tmp_path / "m.onnx"), without_labels(images), expect_top1=90)
    with pytest.raises(UsageError, match="above 0 and at most 100"):
        DoctorSettings(expect_top1=0)


def test_a_model_without_preprocessing_is_refused(
    sound: onnx.ModelProto, images: ImageSet, tmp_path: Path
) -> None:
    bare = dataclasses.replace(written(sound, tmp_path / "m.onnx"), preprocess=None)
    with pytest.raises(ModelError, match="does not say how images are preprocessed"):
        examined(bare, images)


def test_every_recipe_that_is_tried_differs_from_the_stated_one() -> None:
    from vit_edge.runtime.doctor.variants import _crops, _normalisations

    spec = PreprocessSpec(
        224,
        224,
        ResizeMode.SHORT_SIDE,
        (256, 256),
        Interpolation.BICUBIC,
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    )
    tried = [*_normalisations(spec), *_crops(spec)]
    assert spec not in [each.spec for each in tried]
    assert len({each.spec for each in tried}) == len(tried)
    assert "ImageNet's mean and std" not in [each.name for each in tried]
