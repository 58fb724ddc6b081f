"""Fewer weight steps where eight bits could saturate, and only there."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.quantize.activations import activation_of
from tests.quantize.forced import ROW_FIRST, STATIC_FIRST, Costs, quantized
from tests.quantize.small_vit import (
    PREPROCESS,
    Float32,
    Pixels,
    decibels,
    images,
    lowering,
    run,
    small,
    written,
)
from tools.saturating_model import predict
from vit_edge.host.convert.onnx_io import Stamp, finish, save_onnx
from vit_edge.host.convert.pipeline import for_target
from vit_edge.host.lower.model import lower
from vit_edge.host.plan import AttentionPlan, LinearPlan, RowRange, StaticRange
from vit_edge.host.quantize.narrow import narrowed, narrowed_attention, narrowed_json, narrowed_linear
from vit_edge.host.quantize.ranges import static_range
from vit_edge.host.quantize.saturation import CODE, LIMIT, pair_reach, saturating_product
from vit_edge.host.quantize.types import Preset, Quantization, QuantizeSettings
from vit_edge.host.quantize.weights import STEPS, column_scales, compensated
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.targets import load_target

FEW = settings(max_examples=15, deadline=None, derandomize=True)


def layer(seed: int, inner: int, activation: StaticRange | RowRange) -> tuple[LinearPlan, Float32, Float32]:
    """(plan with eight bits, its float weight, the rows it was calibrated on)."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((inner, 12)).astype(np.float32)
    rows = (rng.standard_normal((60, inner)) * rng.uniform(0.1, 1.0, inner)).astype(np.float32)
    seen = activation_of(rows)
    assert seen.moment is not None
    scale = column_scales(weight, seen.moment)
    coded = compensated(weight, scale, seen.moment, seen.rows)
    return LinearPlan(activation, coded, scale, None), weight, rows


@FEW
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_rows_that_use_every_code_cannot_saturate_a_narrowed_layer(seed: int, inner: int) -> None:
    plan, weight, rows = layer(seed, inner, RowRange())
    made = narrowed_linear(plan, weight, activation_of(rows))
    codes = np.random.default_rng(seed).choice([0, 1, 254, CODE], (50, inner)).astype(np.uint8)
    np.testing.assert_array_equal(
        saturating_product(codes, made.weight), codes.astype(np.int64) @ made.weight
    )


@FEW
@given(st.integers(0, 10_000), st.integers(2, 40))
def test_columns_that_fit_keep_their_codes_and_others_at_least_seven_bits(seed: int, inner: int) -> None:
    plan, weight, rows = layer(seed, inner, RowRange())
    made = narrowed_linear(plan, weight, activation_of(rows))
    fit = pair_reach(plan.weight, np.zeros(inner, int), np.full(inner, CODE)) <= LIMIT
    np.testing.assert_array_equal(made.weight[:, fit], plan.weight[:, fit])
    np.testing.assert_array_equal(made.weight_scale[fit], plan.weight_scale[fit])
    assert (made.weight_scale[~fit] > plan.weight_scale[~fit]).all()
    # Halving every weight always fits; the largest weight of a column may be rounded up first, hence 3 %
    assert (made.weight_scale <= plan.weight_scale * (2 * STEPS * CODE / LIMIT) * 1.03).all()


@FEW
@given(st.integers(0, 10_000))
def test_a_narrowed_layer_is_still_close_to_the_float_layer(seed: int) -> None:
    plan, weight, rows = layer(seed, 24, RowRange())
    made = narrowed_linear(plan, weight, activation_of(rows))
    noise = [rows @ (each.weight * each.weight_scale - weight) for each in (plan, made)]
    eight, narrow = (float(np.square(error).sum()) for error in noise)
    assert narrow <= 8 * eight  # seven bits have twice the step, four times the noise; weights are few here


def test_a_layer_that_calibration_shows_far_from_the_limit_keeps_eight_bits() -> None:
    rng = np.random.default_rng(1)
    rows = rng.uniform(0, 1, (50, 16)).astype(np.float32)
    rows[:, 0] = 10.0  # one channel alone decides the range, so all others have small codes
    plan, weight, _ = layer(1, 16, static_range(0.0, 10.0))
    weight[0] *= 1e-3
    seen = activation_of(rows)
    assert seen.moment is not None
    coded = compensated(weight, plan.weight_scale, seen.moment, seen.rows)
    plan = dataclasses.replace(plan, weight=coded)
    assert (pair_reach(plan.weight, np.zeros(16, int), np.full(16, CODE)) > LIMIT).any()
    made = narrowed_linear(plan, weight, seen)
    np.testing.assert_array_equal(made.weight, plan.weight)


def test_a_layer_without_a_second_moment_is_refused() -> None:
    plan, weight, rows = layer(0, 4, RowRange())
    blind = dataclasses.replace(activation_of(rows), moment=None)
    with pytest.raises(ValueError, match="second moment"):
        narrowed_linear(plan, weight, blind)


@pytest.mark.parametrize(
    ("probability_scale", "steps"),
    [
        (1 / 255, 127),  # neighbours of one softmax add up to 255, and 256 when both are rounded up
        (1 / 510, 64),
        (None, 64),  # before they are normalised, each may be 255
    ],
)
def test_values_have_as_many_steps_as_two_probabilities_leave_room_for(
    probability_scale: float | None, steps: int
) -> None:
    still = activation_of(np.zeros((4, 8), np.float32))
    plan = AttentionPlan(StaticRange(1.0, 0), 1.0, 1.0, probability_scale)
    made = narrowed_attention(plan, still, still, heads=2)
    assert int(STEPS / made.value_scale) == steps
    assert made.key_scale == 1.0


@pytest.mark.parametrize(("reach", "steps"), [(128.0, 127), (255.0, 64), (200.0, 81)])
def test_keys_have_as_many_steps_as_the_queries_leave_room_for(reach: float, steps: int) -> None:
    """Queries reach `reach` codes in every channel, less the margin, and keys all of their range."""
    queries = activation_of(np.array([[0.0] * 6, [reach / 1.25] * 6], np.float32))
    keys = activation_of(np.array([[-127.0] * 6, [127.0] * 6], np.float32))
    made = narrowed_attention(AttentionPlan(StaticRange(1.0, 0), 1.0, 1.0, 1 / 255), queries, keys, heads=2)
    assert int(STEPS / made.key_scale) == steps


def test_queries_and_keys_of_two_heads_are_no_neighbours() -> None:
    """Of three channels each: the third is paired with nothing, not with the first of the next head."""
    queries = activation_of(np.array([[0] * 6, [0, 0, 204, 204, 0, 0]], np.float32))
    keys = activation_of(np.array([[-127.0] * 6, [127.0] * 6], np.float32))
    made = narrowed_attention(AttentionPlan(StaticRange(1.0, 0), 1.0, 1.0, 1 / 255), queries, keys, heads=2)
    assert made.key_scale == 1.0


@pytest.fixture(scope="module", params=[STATIC_FIRST, ROW_FIRST], ids=["static", "row"])
def made(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[Canonical, Quantization]:
    paths = written(tmp_path_factory.mktemp("calibration"), 12)
    costs: Costs = request.param
    return quantized(paths, QuantizeSettings(Preset.FAST, 12, saturating=True), costs, costs)


def test_narrowing_a_model_costs_little_and_ends_saturation(
    made: tuple[Canonical, Quantization], tmp_path: Path
) -> None:
    canonical, found = made
    paths, pixels = written(tmp_path, 6, seed=3), images(6, seed=3)
    plans = {"eight": found.plan, "narrow": narrowed(found).plan}
    lost, ratio = {}, {}
    for name, plan in plans.items():
        model = lower(canonical, lowering(), plan)
        ratio[name] = decibels(answers(lower(small(), lowering()), pixels), answers(model, pixels))
        save_onnx(finish(model, Stamp(preprocess=PREPROCESS)), tmp_path / f"{name}.onnx")
        lost[name] = predict(tmp_path / f"{name}.onnx", paths).saturated
    assert lost["eight"].keys() == lost["narrow"].keys()
    assert max(lost["eight"].values()) > 1e-3
    # images beyond what calibration saw may still saturate attention, whose scales hold what it saw
    assert max(lost["narrow"].values()) < 1e-3
    assert all(share == 0 for name, share in lost["narrow"].items() if "attention" not in name)
    assert ratio["narrow"] > ratio["eight"] - 6.0  # one bit everywhere


def answers(model: onnx.ModelProto, pixels: Pixels) -> Float32:
    return np.concatenate([run(model, image[None]) for image in pixels])


def test_what_was_narrowed_is_recorded_for_every_operand_and_layer(
    made: tuple[Canonical, Quantization],
) -> None:
    _, found = made
    taken = narrowed(found)
    recorded = narrowed_json(taken)
    assert recorded is not None
    assert json.loads(json.dumps(recorded)) == recorded
    assert narrowed_json(found) is None
    for name, layer in found.plan.linears.items():
        columns = int((layer.weight_scale != taken.plan.linears[name].weight_scale).sum())
        assert columns == recorded.get(name, {"columns": 0})["columns"]
    assert all(63 <= operand["steps"] <= 127 for operand in recorded.values())
    noted = {layer.name for layer in taken.layers if "7 bits" in layer.reason}
    named = {name.removesuffix(".keys").removesuffix(".values") for name in recorded}
    assert noted == named - {"embed"}


def test_a_target_takes_the_narrow_plan_once_and_only_if_it_saturates(
    made: tuple[Canonical, Quantization],
) -> None:
    _, found = made
    portable = load_target("cpu")
    saturating = dataclasses.replace(portable, saturating=True)
    assert for_target(found, portable).plan is found.plan
    taken = for_target(found, saturating)
    assert taken.plan is found.narrow
    assert for_target(taken, saturating) == taken


def test_a_saturating_target_refuses_a_quantization_without_a_narrow_plan(
    made: tuple[Canonical, Quantization],
) -> None:
    _, found = made
    with pytest.raises(ValueError, match=r"settings\.saturating"):
        narrowed(dataclasses.replace(found, narrow=None))
