"""The patch embedding's weights are rounded against the patches that calibration saw, and never saturate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.host.quantize.forced import quantized
from tests.host.quantize.small_vit import (
    NORMAL,
    PATCH,
    PREPROCESS,
    SIDE,
    decibels,
    images,
    lowering,
    run,
    small,
    written,
)
from vit_edge.arrays import Float32
from vit_edge.host.lower.embed import Patches, unnormalised
from vit_edge.host.lower.model import lower
from vit_edge.host.lower.sizes import patches_of
from vit_edge.host.plan import EmbedPlan, QuantPlan
from vit_edge.host.quantize.observe import PATCHES, observer_of, patch_rows
from vit_edge.host.quantize.saturation import LIMIT
from vit_edge.host.quantize.tally import Tallies
from vit_edge.host.quantize.types import Preset, QuantizeSettings
from vit_edge.host.quantize.weights import nearest
from vit_edge.host.rewrite.composites import EMBED, composites
from vit_edge.host.rewrite.values import linear_parts
from vit_edge.spec import Arithmetic

COUNT = 24
OTHERS = 99  # the seed of images that calibration does not see
FEW = settings(max_examples=15, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[Arithmetic, EmbedPlan]:
    paths = written(tmp_path_factory.mktemp("calibration"), COUNT)
    kinds = (Arithmetic.EXACT, Arithmetic.SATURATING)
    _, found = quantized(paths, QuantizeSettings(Preset.STATIC, COUNT, arithmetics=kinds))
    embeds = {kind: plan.embed for kind, plan in found.plans.items()}
    assert all(embed is not None for embed in embeds.values())
    return {kind: embed for kind, embed in embeds.items() if embed is not None}


def nearest_plan(scale: Float32) -> EmbedPlan:
    """Every weight at its nearest step, as if no image had been seen."""
    node = next(composites(small().model.graph, EMBED))
    _, weight, table = linear_parts(node)
    assert table is not None
    weight, table = unnormalised(weight, table, patches_of(node), NORMAL)
    return EmbedPlan(nearest(weight, scale), scale, table)


def ratio(plan: EmbedPlan) -> float:
    """Logit signal to noise on other images, with the patch embedding alone quantized, dB."""
    pixels = images(COUNT, OTHERS)
    reference = run(lower(small(), lowering(None)), pixels)
    return decibels(reference, run(lower(small(), lowering(None), QuantPlan(embed=plan)), pixels))


@pytest.mark.parametrize("kind", [Arithmetic.EXACT, Arithmetic.SATURATING])
def test_rounding_against_the_patches_is_better_than_to_the_nearest_step(
    plans: dict[Arithmetic, EmbedPlan], kind: Arithmetic
) -> None:
    """By 3 dB, half a bit, with the same steps."""
    assert ratio(plans[kind]) > ratio(nearest_plan(plans[kind].weight_scale)) + 3


@given(seed=st.integers(0, 2**32 - 1))
@FEW
def test_no_image_whatever_saturates_the_plan_for_saturating_cpus(
    plans: dict[Arithmetic, EmbedPlan], seed: int
) -> None:
    """Pixels at their ends, which no calibration image has, in either order of a file's pixels."""
    weight = plans[Arithmetic.SATURATING].weight.astype(np.int64)
    by_channel = weight.reshape(3, PATCH * PATCH, -1)
    codes = np.random.default_rng(seed).choice([0, 255], size=len(weight))
    for order in (weight, by_channel.transpose(1, 0, 2).reshape(weight.shape)):
        pairs = (codes[:, None] * order).reshape(-1, 2, weight.shape[1]).sum(axis=1)
        assert np.abs(pairs).max() <= LIMIT + 1


def test_the_mean_patch_gets_exactly_what_the_float_weights_give_it(
    plans: dict[Arithmetic, EmbedPlan],
) -> None:
    """The table takes off what rounding adds to it; to 1e-5 of the largest value."""
    canonical = small()
    node = next(composites(canonical.model.graph, EMBED))
    _, weight, table = linear_parts(node)
    assert table is not None
    patches = patches_of(node)
    weight, table = unnormalised(weight, table, patches, NORMAL)
    mean = np.concatenate([patch_rows(pixels, patches) for pixels in images(COUNT)]).mean(axis=0) / 255
    wanted = mean @ weight + table[patches.prefix :]
    for plan in plans.values():
        made = mean @ (plan.weight * plan.weight_scale) + plan.table[patches.prefix :]
        np.testing.assert_allclose(made, wanted, atol=1e-5 * np.abs(wanted).max())


def test_patches_are_rows_of_the_weight_in_its_order() -> None:
    patches = Patches(rows=2, columns=3, height=2, width=4, channels=3, prefix=1, dim=5)
    pixels = np.random.default_rng(1).integers(0, 256, (4, 12, 3), np.uint8)
    rows = patch_rows(pixels, patches)
    assert rows.shape == (6, 24)
    for index in range(6):
        top, left = index // 3 * 2, index % 3 * 4
        patch = pixels[top : top + 2, left : left + 4]
        np.testing.assert_array_equal(rows[index], patch.transpose(2, 0, 1).reshape(-1))


def test_patches_are_observed_once_per_image() -> None:
    observer, calibration = observer_of(small(), PREPROCESS), Tallies()
    pixels = images(3)
    for image in pixels:
        observer.add(calibration, image)
    seen = calibration.finished()[PATCHES]
    patches = np.concatenate([patch_rows(image, observer.patches) for image in pixels if observer.patches])
    assert seen.rows == len(patches) == 3 * (SIDE // PATCH) ** 2
    np.testing.assert_allclose(seen.mean, patches.mean(axis=0) / 255, rtol=1e-5)
    np.testing.assert_allclose(seen.covariance, np.cov(patches.T, bias=True) / 255**2, atol=1e-6)
