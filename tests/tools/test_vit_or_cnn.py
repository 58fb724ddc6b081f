"""The comparison of a ViT with a CNN: the page is its results', and images are changed as it says."""

import json

import numpy as np
import pytest
import torch

from tools import vit_or_cnn as tool
from tools.digits import LABELS, SIDE
from tools.train_digits import reference

IMAGES = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)


def test_the_page_says_what_the_results_hold() -> None:
    found = json.loads(tool.RESULTS.read_text())
    assert tool.PAGE.read_text() == tool.page(found), "run: python -m tools.vit_or_cnn --page"


def test_both_models_have_about_as_many_weights_and_the_same_classes() -> None:
    vit, cnn = reference(), tool.ConvNet()
    counts = [sum(each.numel() for each in model.parameters()) for model in (vit, cnn)]
    assert 0.9 < counts[1] / counts[0] < 1.1
    assert cnn.eval()(torch.zeros(2, 3, SIDE, SIDE)).shape == (2, len(LABELS))


def test_a_shift_moves_right_and_down_and_repeats_the_border() -> None:
    moved = tool.shifted(IMAGES, 3)
    np.testing.assert_array_equal(moved[:, 3:, 3:], IMAGES[:, :-3, :-3])
    np.testing.assert_array_equal(moved[:, 0, 3:], IMAGES[:, 0, :-3])
    assert moved.shape == IMAGES.shape


@pytest.mark.parametrize("side", [8, 12])
def test_a_square_is_hidden_in_each_image_at_a_place_of_its_own(side: int) -> None:
    hidden = tool.occluded(IMAGES, side)
    for before, after in zip(IMAGES, hidden, strict=True):
        rows, columns = np.nonzero((before != after).any(axis=2))
        assert max(np.ptp(rows), np.ptp(columns)) < side
    np.testing.assert_array_equal(tool.occluded(IMAGES, side), hidden)  # the same for every model


def test_noise_is_grey_and_stays_within_bytes() -> None:
    flat = np.full((4, SIDE, SIDE, 3), 128, np.uint8)
    changed = tool.noisy(flat, 40.0)
    assert (changed == changed[..., :1]).all()
    assert abs(changed.astype(float).std() - 40) < 3  # of 4096 draws


def test_pairs_are_counted_by_who_alone_is_right() -> None:
    class Test:
        labels = np.array([0, 1, 2, 3])

    one = np.eye(4, dtype=np.float32)
    other = one[[0, 0, 2, 0]]
    found = tool.pair("a", "b", {"a": one, "b": other}, Test())  # type: ignore[arg-type]
    assert (found["only_first_right"], found["only_second_right"], found["both_wrong"]) == (2, 0, 0)
    assert found["mcnemar_p"] == pytest.approx(0.5)
