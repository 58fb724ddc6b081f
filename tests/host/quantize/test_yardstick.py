"""By what errors of outputs count: a share of the output's power, and of a box a share of its size."""

import numpy as np
import pytest

from vit_edge.host.quantize.yardstick import BOX_SHARE, LEAST_SIZE, yardsticks

RNG = np.random.default_rng(0)
MAPS = [RNG.standard_normal(shape).astype(np.float32) for shape in ((5, 3, 4, 4), (5, 7))]
SURE = 12.0  # a logit against zeros: a probability of all but 1
NAMES = ("logits", "pred_boxes")


def a_detector(sure: list[float], size: float = 0.1) -> list[np.ndarray]:
    """Two images with a box for each number, of a class where it is large, and of nothing where it is not."""
    logits = np.zeros((2, len(sure), 4), np.float32)
    logits[..., 1] = sure
    logits[..., 3] = SURE / 2
    boxes = np.full((2, len(sure), 4), 0.5, np.float32)
    boxes[..., 2:] = size
    return [logits, boxes]


def noise(reference: list[np.ndarray], errors: list[np.ndarray], names: tuple[str, ...] = NAMES) -> float:
    weights = yardsticks(names, reference)
    return sum(float(np.square(e * w).sum()) for e, w in zip(errors, weights, strict=True))


@pytest.mark.parametrize("names", [(), ("a", "b"), ("logits", "mask"), ("pred_boxes", "b")])
def test_noise_is_the_mean_over_outputs_of_the_errors_power_over_the_outputs(names: tuple[str, ...]) -> None:
    errors = [RNG.standard_normal(each.shape) * scale for each, scale in zip(MAPS, (0.1, 0.01), strict=True)]
    shares = [np.square(e).sum() / np.square(m).sum() for e, m in zip(errors, MAPS, strict=True)]
    assert noise(MAPS, errors, names) == pytest.approx(np.mean(shares), rel=1e-5)


@pytest.mark.parametrize("size", [0.05, 0.4])
def test_an_error_of_a_box_counts_in_shares_of_its_size(size: float) -> None:
    """Every coordinate off by a hundredth of the box's size is the noise of 5 % in another output, halved."""
    reference = a_detector([SURE, SURE], size)
    off = [np.zeros_like(reference[0]), np.full_like(reference[1], 0.01 * size)]
    assert noise(reference, off) == pytest.approx((0.01 / BOX_SHARE) ** 2 / 2, rel=1e-4)


def test_an_error_of_a_box_of_nothing_counts_for_little() -> None:
    reference = a_detector([SURE, 0.0])
    errors = [np.zeros_like(each) for each in reference]
    errors[1][:, 1] = 0.01
    of_nothing = noise(reference, errors)
    errors[1] = errors[1][:, ::-1]
    assert of_nothing < 0.01 * noise(reference, errors)


@pytest.mark.parametrize("size", [0.0, -0.2])
def test_a_box_without_a_size_counts_as_a_small_one(size: float) -> None:
    errors = [np.zeros((2, 1, 4)), np.full((2, 1, 4), 0.001)]
    least = noise(a_detector([SURE], LEAST_SIZE), errors)
    assert noise(a_detector([SURE], size), errors) == pytest.approx(least)


def test_an_output_that_is_zero_has_noise_that_is_a_number() -> None:
    found = noise([np.zeros((2, 3), np.float32)], [np.zeros((2, 3))], ("a",))
    assert found == 0.0
