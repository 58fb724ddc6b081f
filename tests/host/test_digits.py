"""The embedded reference model and the folders of digits it is tested on."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from sklearn.datasets import load_digits

from tools.digits import LABELS, SIDE, make_folders, render, split
from tools.train_digits import (
    CONFIG,
    Recipe,
    augment,
    correct,
    reference,
    to_input,
    train,
    write_card,
    write_model,
)
from vit_edge.host.sources import Source, SourceKind, SourceOptions, resolve
from vit_edge.host.vit import VisionTransformer
from vit_edge.spec import ResizeMode

MODEL = Path(__file__).parents[2] / "models" / "digits_vit"


@pytest.fixture(scope="module")
def source() -> Source:
    return resolve(str(MODEL), SourceOptions())


def module_of(source: Source) -> VisionTransformer:
    assert isinstance(source.module, VisionTransformer)
    return source.module


def test_the_parts_hold_every_digit_once() -> None:
    parts = split()
    assert set(parts) == {"train", "calibration", "test"}
    together = np.concatenate([part.index for part in parts.values()])
    assert np.array_equal(np.sort(together), np.arange(1797))


def test_the_parts_hold_every_class_in_fixed_numbers() -> None:
    parts = split()
    assert np.bincount(parts["test"].labels).tolist() == [42] * 10
    assert np.bincount(parts["calibration"].labels).tolist() == [13] * 10


def test_the_split_keeps_each_image_with_its_label() -> None:
    levels, target = load_digits(return_X_y=True)
    for part in split().values():
        assert np.array_equal(part.labels, target[part.index])
        assert np.array_equal(part.pixels[0], render(levels[part.index[0]].reshape(8, 8)))


def test_rendering_keeps_the_range_and_stays_grey() -> None:
    ramp = np.tile(np.linspace(0, 16, 8), (8, 1))
    image = render(ramp)
    assert image.shape == (SIDE, SIDE, 3)
    assert image.dtype == np.uint8
    assert image[0, 0, 0] < 5
    assert image[0, -1, 0] > 250
    assert np.array_equal(image[..., 0], image[..., 2])


def test_the_folders_are_the_split_pixel_for_pixel(tmp_path: Path) -> None:
    make_folders(tmp_path)
    for name, part in split().items():
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == sorted(LABELS)
        files = {int(path.stem): path for path in (tmp_path / name).glob("*/*.png")}
        assert sorted(files) == part.index.tolist()
        for pixels, label, number in zip(part.pixels, part.labels, part.index, strict=True):
            assert files[number].parent.name == LABELS[label]
            with Image.open(files[number]) as image:
                assert np.array_equal(np.asarray(image), pixels)


def test_normalisation_maps_black_to_minus_one_and_white_to_one() -> None:
    pixels = np.stack([np.zeros((SIDE, SIDE, 3), np.uint8), np.full((SIDE, SIDE, 3), 255, np.uint8)])
    assert to_input(pixels)[:, 0, 0, 0].tolist() == [-1.0, 1.0]


def test_augmentation_without_range_changes_nothing() -> None:
    images = to_input(split()["calibration"].pixels[:4])
    still = Recipe(rotation=0, scale=0, shift=0, shear=0)
    torch.testing.assert_close(augment(images, still), images, atol=1e-4, rtol=0)


def test_augmentation_moves_images_within_their_range() -> None:
    images = to_input(split()["calibration"].pixels[:4])
    torch.manual_seed(0)
    moved = augment(images, Recipe())
    assert moved.shape == images.shape
    assert moved.min() >= -1.0001
    assert moved.max() <= 1.0001
    assert (moved - images).abs().mean() > 0.01


def test_training_is_repeatable_and_writes_a_model_with_its_own_figures(tmp_path: Path) -> None:
    part = split()["calibration"]
    recipe = Recipe(epochs=1)
    first, second = train(part, recipe, reference), train(part, recipe, reference)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    write_model(first, tmp_path)
    top1 = write_card(tmp_path, split(), recipe, seconds=1.0)
    assert f"**{top1:.2f} %**" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert resolve(str(tmp_path), SourceOptions()).config == CONFIG


def test_the_model_is_what_its_config_says(source: Source) -> None:
    assert source.kind is SourceKind.HUGGINGFACE
    assert source.config == CONFIG
    assert source.labels == LABELS
    assert source.labels_note == ""
    assert source.preprocess.resize_mode is ResizeMode.EXACT
    assert (source.preprocess.height, source.preprocess.width) == (SIDE, SIDE)


def test_the_model_is_small_enough_to_keep_in_the_repository() -> None:
    assert (MODEL / "model.safetensors").stat().st_size < 2_000_000


def test_the_model_reads_held_out_digits_as_its_card_says(source: Source) -> None:
    test = split()["test"]
    right = correct(module_of(source), test)
    assert right >= 0.97 * len(test.labels)
    card = (MODEL / "README.md").read_text(encoding="utf-8")
    stated = re.search(r"\*\*([\d.]+) %\*\* \((\d+) of (\d+) test images\)", card)
    assert stated is not None
    # Two images may flip on a processor that rounds differently.
    assert abs(int(stated[2]) - right) <= 2
    assert int(stated[3]) == len(test.labels)
    assert float(stated[1]) == round(100 * int(stated[2]) / int(stated[3]), 2)


def test_transformers_gives_the_same_logits(source: Source) -> None:
    theirs = transformers.ViTForImageClassification.from_pretrained(MODEL).eval()
    inputs = to_input(split()["calibration"].pixels[:64])
    with torch.inference_mode():
        difference = (theirs(inputs).logits - module_of(source)(inputs)).abs().max()
    assert difference < 1e-4  # logits of order 5 in float32
    assert [theirs.config.id2label[index] for index in range(10)] == list(LABELS)


def test_the_committed_json_is_what_the_tool_writes(tmp_path: Path, source: Source) -> None:
    write_model(module_of(source), tmp_path)
    for name in ("config.json", "preprocessor_config.json"):
        assert json.loads((tmp_path / name).read_text()) == json.loads((MODEL / name).read_text())
    assert (tmp_path / "model.safetensors").read_bytes() == (MODEL / "model.safetensors").read_bytes()
