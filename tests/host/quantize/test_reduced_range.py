"""Fewer weight steps where eight bits could saturate, and only there."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.host.quantize.activations import activation_of
from tests.host.quantize.forced import ROW_FIRST, STATIC_FIRST, Costs, quantized
from tests.host.quantize.small_vit import PREPROCESS, decibels, images, lowering, run, small, written
from tools.saturating_model import predict
from vit_edge.arrays import Float32, Pixels
from vit_edge.host.affine import Affine
from vit_edge.host.convert.for_target import for_target, settings_for
from vit_edge.host.convert.onnx_io import finish, save_onnx
from vit_edge.host.lower.model import lower
from vit_edge.host.plan import AttentionPlan, LinearPlan, RowRange
from vit_edge.host.quantize.attention_reach import (
    GROWTHS,
    SHARE,
    WORST,
    AttentionReach,
    Loss,
    attention_reaches,
    loss_of,
)
from vit_edge.host.quantize.reduced_range import (
    reduced_attention,
    reduced_linear,
    reduced_operands,
)
from vit_edge.host.quantize.saturation import (
    CODE,
    LIMIT,
    box_corners,
    pair_reach,
    saturating_product,
    seen_corners,
)
from vit_edge.host.quantize.search import search_of
from vit_edge.host.quantize.types import Form, Preset, Quantization, QuantizeSettings
from vit_edge.host.quantize.weights import STEPS, column_scales, gptq_rounded
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.runtime.model.metadata import ModelMetadata
from vit_edge.spec import Arithmetic
from vit_edge.targets import load_target

FEW = settings(max_examples=15, deadline=None, derandomize=True)


def layer(seed: int, inner: int, activation: Affine | RowRange) -> tuple[LinearPlan, Float32, Float32]:
    """(plan with eight bits, its float weight, the rows it was calibrated on)."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((inner, 12)).astype(np.float32)
    rows = (rng.standard_normal((60, inner)) * rng.uniform(0.1, 1.0, inner)).astype(np.float32)
    seen = activation_of(rows)
    assert seen.moment is not None
    scale = column_scales(weight, seen.moment)
    coded = gptq_rounded(weight, scale, seen.moment, seen.rows)
    return LinearPlan(activation, coded, scale, None), weight, rows


@FEW
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_the_rows_of_calibration_cannot_saturate_a_layer_of_reduced_range(seed: int, inner: int) -> None:
    plan, weight, rows = layer(seed, inner, RowRange())
    made = reduced_linear(plan, weight, activation_of(rows))
    scaled = rows / np.abs(rows).max(axis=1, keepdims=True) * 127.5
    codes = np.clip(np.rint(scaled) + 128, 0, CODE).astype(np.uint8)
    exact = codes.astype(np.int64) @ made.weight
    np.testing.assert_array_equal(saturating_product(codes, made.weight), exact)


@FEW
@given(st.integers(0, 10_000), st.integers(2, 40))
def test_columns_that_fit_keep_their_codes_and_others_at_least_seven_bits(seed: int, inner: int) -> None:
    plan, weight, rows = layer(seed, inner, RowRange())
    seen = activation_of(rows)
    made = reduced_linear(plan, weight, seen)
    fit = pair_reach(plan.weight, seen_corners(seen, plan.activation)) < LIMIT + 1
    np.testing.assert_array_equal(made.weight[:, fit], plan.weight[:, fit])
    np.testing.assert_array_equal(made.weight_scale[fit], plan.weight_scale[fit])
    assert (made.weight_scale[~fit] > plan.weight_scale[~fit]).all()
    # Halving every weight always fits; the largest weight of a column may be rounded up first, hence 3 %
    assert (made.weight_scale <= plan.weight_scale * (2 * STEPS * CODE / LIMIT) * 1.03).all()


@FEW
@given(st.integers(0, 10_000))
def test_a_layer_of_reduced_range_is_still_close_to_the_float_layer(seed: int) -> None:
    plan, weight, rows = layer(seed, 24, RowRange())
    made = reduced_linear(plan, weight, activation_of(rows))
    noise = [rows @ (each.weight * each.weight_scale - weight) for each in (plan, made)]
    eight, fewer = (float(np.square(error).sum()) for error in noise)
    assert fewer <= 8 * eight  # seven bits have twice the step, four times the noise; weights are few here


def test_a_layer_that_calibration_shows_far_from_the_limit_keeps_eight_bits() -> None:
    rng = np.random.default_rng(1)
    rows = rng.uniform(0, 1, (50, 16)).astype(np.float32)
    rows[:, 0] = 10.0  # one channel alone decides the range, so all others have small codes
    plan, weight, _ = layer(1, 16, Affine.of(0.0, 10.0))
    weight[0] *= 1e-3
    seen = activation_of(rows)
    assert seen.moment is not None
    coded = gptq_rounded(weight, plan.weight_scale, seen.moment, seen.rows)
    plan = dataclasses.replace(plan, weight=coded)
    anywhere = box_corners(np.zeros(16, int), np.full(16, CODE))
    assert (pair_reach(plan.weight, anywhere) > LIMIT).any()
    made = reduced_linear(plan, weight, seen)
    np.testing.assert_array_equal(made.weight, plan.weight)


def test_a_layer_without_a_second_moment_is_refused() -> None:
    plan, weight, rows = layer(0, 4, RowRange())
    blind = dataclasses.replace(activation_of(rows), moment=None)
    with pytest.raises(ValueError, match="second moment"):
        reduced_linear(plan, weight, blind)


STATIC = AttentionPlan(Affine(1.0, 0), 1.0, 1.0, probability_scale=1 / 255)
ROW = dataclasses.replace(STATIC, probability_scale=None)
NOTHING = Loss.none()


def losing(until: float) -> Loss:
    """What is too much with all steps less than so many times as large."""
    return Loss(np.where(until - 1e-9 > GROWTHS, 1.0, 0.0), 1.0)


@pytest.mark.parametrize(
    ("plan", "reach", "keys", "values"),
    [
        (STATIC, AttentionReach(), 127, 127),
        (STATIC, AttentionReach(keys=losing(1.15)), 110, 127),
        (STATIC, AttentionReach(values=losing(1.75), row_values=losing(WORST)), 127, 72),
        (ROW, AttentionReach(values=losing(WORST)), 127, 127),
        (ROW, AttentionReach(row_values=losing(1.5)), 127, 84),
        (ROW, AttentionReach(losing(WORST), NOTHING, losing(WORST)), 64, 64),  # seven bits always fit
    ],
)
def test_keys_and_values_have_as_many_steps_as_saturation_leaves_worth_having(
    plan: AttentionPlan, reach: AttentionReach, keys: int, values: int
) -> None:
    made = reduced_attention(plan, reach)
    assert (int(STEPS / made.key_scale), int(STEPS / made.value_scale)) == (keys, values)


@pytest.mark.parametrize(
    ("saturated", "growth"),
    [(0.0, 1.0), (SHARE, 1.0), (SHARE * 1.05, 1.05), (SHARE * 1.2**2, 1.2), (1e9, WORST)],
)
def test_saturation_is_borne_up_to_a_share_of_what_rounding_does(saturated: float, growth: float) -> None:
    lost = np.where(GROWTHS < WORST, saturated, 0.0)  # the same whatever the steps
    assert Loss(lost, 1.0).growth == pytest.approx(growth)


@pytest.mark.parametrize("inner", [6, 7])
@pytest.mark.parametrize("zero_point", [0, 128])
def test_the_loss_of_a_product_is_what_its_pair_sums_have_beyond_int16(inner: int, zero_point: int) -> None:
    rng = np.random.default_rng(inner)
    codes = rng.integers(0, 256, (2, 40, inner)).astype(np.float64)
    steps = rng.normal(0, 60, (2, inner, 9)).clip(-127, 127)
    expected, wide = np.zeros(len(GROWTHS)), inner + inner % 2
    first = np.pad(codes, ((0, 0), (0, 0), (0, wide - inner)))
    second = np.pad(steps, ((0, 0), (0, wide - inner), (0, 0)))
    for pair in range(0, wide, 2):
        sums = np.abs(first[..., pair : pair + 2] @ second[:, pair : pair + 2])
        expected += [np.square(np.maximum(sums - growth * LIMIT, 0.0)).sum() for growth in GROWTHS]
    found = loss_of(codes, zero_point, steps)
    assert expected[0] > 0.0
    assert expected[-1] == 0.0
    np.testing.assert_allclose(found.saturated, expected, rtol=1e-9, atol=1e-3)
    rounding = rng.uniform(-0.5, 0.5, (400, *steps.shape))  # what rounding the second leaves
    power = np.square((codes - zero_point) @ rounding).sum(axis=(1, 2, 3)).mean()
    assert found.rounded == pytest.approx(power, rel=0.1)


def test_the_reach_of_an_attention_over_images_is_that_of_each_together(tmp_path: Path) -> None:
    pixels = images(3)
    paths = written(tmp_path, 12)
    found = search_of(small(), paths, PREPROCESS, QuantizeSettings(Preset.STATIC, 12))
    canonical = found.canonical
    plans = {name: forms[Form.STATIC] for name, forms in found.plan_set.exact.attentions.items()}
    reaches = attention_reaches(canonical, lowering(), plans, list(pixels), lambda *_: None)
    alone = [attention_reaches(canonical, lowering(), plans, [each], lambda *_: None) for each in pixels]
    for name, reach in reaches.items():
        for kind in ("keys", "values", "row_values"):
            of_each = [getattr(each[name], kind) for each in alone]
            assert getattr(reach, kind).rounded == pytest.approx(sum(each.rounded for each in of_each))
            expected = sum(each.saturated for each in of_each)
            np.testing.assert_allclose(getattr(reach, kind).saturated, expected)


@pytest.fixture(scope="module", params=[STATIC_FIRST, ROW_FIRST], ids=["static", "row"])
def made(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[Canonical, Quantization]:
    paths = written(tmp_path_factory.mktemp("calibration"), 48)
    costs: Costs = request.param
    both = (Arithmetic.SATURATING, Arithmetic.EXACT)
    return quantized(paths, QuantizeSettings(Preset.FAST, 48, arithmetics=both), costs, costs)


def test_a_reduced_range_costs_little_and_ends_saturation(
    made: tuple[Canonical, Quantization], tmp_path: Path
) -> None:
    canonical, found = made
    paths, pixels = written(tmp_path, 6, seed=3), images(6, seed=3)
    lost, ratio = {}, {}
    for kind, plan in found.plans.items():
        model = lower(canonical, lowering(), plan)
        ratio[kind] = decibels(answers(lower(small(), lowering()), pixels), answers(model, pixels))
        save_onnx(finish(model, ModelMetadata(preprocess=PREPROCESS)), tmp_path / f"{kind.value}.onnx")
        lost[kind] = predict(tmp_path / f"{kind.value}.onnx", paths).saturated
    eight, fewer = lost[Arithmetic.EXACT], lost[Arithmetic.SATURATING]
    assert eight.keys() == fewer.keys()
    assert max(eight.values()) > 0.01
    # few images to learn from, above all for what sees the CLS token alone
    assert max(fewer.values()) < 0.02
    assert sum(fewer.values()) < 0.02 * sum(eight.values())
    assert ratio[Arithmetic.SATURATING] > ratio[Arithmetic.EXACT] - 6.0  # one bit everywhere


def answers(model: onnx.ModelProto, pixels: Pixels) -> Float32:
    return np.concatenate([run(model, image[None]) for image in pixels])


def test_what_was_reduced_is_recorded_for_every_operand_and_layer(
    made: tuple[Canonical, Quantization],
) -> None:
    _, found = made
    eight, fewer = found.plans[Arithmetic.EXACT], found.plans[Arithmetic.SATURATING]
    assert found.reduced == reduced_operands(eight, fewer)
    recorded = {operand.name: operand for operand in found.reduced}
    for name, layer in eight.linears.items():
        columns = int((layer.weight_scale != fewer.linears[name].weight_scale).sum())
        assert columns == (recorded[name].columns if name in recorded else 0)
    assert all(63 <= operand.steps <= 127 for operand in found.reduced)
    taken = for_target(found, load_target("cpu"))
    noted = {layer.name for layer in taken.layers if "reduced range" in layer.reason}
    named = {name.removesuffix(".keys").removesuffix(".values") for name in recorded}
    assert noted == named - {"embed"}


def test_a_target_takes_the_plan_for_its_arithmetic_and_taking_it_twice_changes_nothing(
    made: tuple[Canonical, Quantization],
) -> None:
    _, found = made
    safe, exact = load_target("cpu"), load_target("cpu-x86-vnni")
    assert for_target(found, safe).plan is found.plans[Arithmetic.SATURATING]
    assert for_target(found, exact).plan is found.plans[Arithmetic.EXACT]
    taken = for_target(found, safe)
    assert for_target(taken, safe) == taken


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cpu"], (Arithmetic.SATURATING,)),
        (["cpu-x86-vnni"], (Arithmetic.EXACT,)),
        (["cpu", "cpu-x86-vnni", "cpu-x86-avx2"], (Arithmetic.SATURATING, Arithmetic.EXACT)),
        (["cuda", "cpu-arm64"], (Arithmetic.EXACT,)),
        (["cpu", "qnn-htp"], (Arithmetic.SATURATING, Arithmetic.INTEGER)),
    ],
)
def test_plans_are_made_for_what_the_targets_compute_with(
    names: list[str], expected: tuple[Arithmetic, ...]
) -> None:
    assert settings_for(QuantizeSettings(), map(load_target, names)).arithmetics == expected
