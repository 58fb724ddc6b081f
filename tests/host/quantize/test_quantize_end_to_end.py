"""Quantization of a whole small model: presets, decisions, recipe, and the same result every time."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tests.host.quantize.forced import FLOAT_FIRST, quantized
from tests.host.quantize.small_vit import PREPROCESS, decibels, images, lowering, run, small, written
from vit_edge import plain
from vit_edge.errors import ImageError, ModelError
from vit_edge.host.lower.model import lower
from vit_edge.host.plan import FLOAT, AttentionPlan, LinearPlan
from vit_edge.host.quantize.search import search_of
from vit_edge.host.quantize.types import GOALS, Form, Preset, Quantization, QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.composites import ATTENTION, LINEAR, composites
from vit_edge.manifest import LayerRecord, Method

COUNT = 12
Made = dict[Preset, tuple[Canonical, Quantization]]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return written(tmp_path_factory.mktemp("calibration"), COUNT)


@pytest.fixture(scope="module")
def made(paths: list[Path]) -> Made:
    return {preset: quantized(paths, QuantizeSettings(preset, COUNT)) for preset in Preset}


def ratio(canonical: Canonical, found: Quantization) -> float:
    """Logit signal to noise on the calibration images, dB."""
    pixels = images(COUNT)
    reference = run(lower(small(), lowering(None)), pixels)
    return decibels(reference, run(lower(canonical, lowering(None), found.plan), pixels))


def test_presets_trade_noise_in_the_order_of_their_names(made: Made) -> None:
    accurate, balanced, fast = (
        ratio(*made[preset]) for preset in (Preset.ACCURATE, Preset.BALANCED, Preset.FAST)
    )
    assert accurate >= balanced >= fast
    assert accurate > fast


@pytest.mark.parametrize("preset", Preset)
def test_the_ratio_in_the_recipe_is_that_of_the_written_model(made: Made, preset: Preset) -> None:
    canonical, found = made[preset]
    # all calibration images were probed; 0.3 dB: kernels for one image and for many round float layers apart
    assert found.recipe.probe_db == pytest.approx(ratio(canonical, found), abs=0.3)


@pytest.mark.parametrize("preset", Preset)
def test_every_layer_has_a_decision_a_reason_and_if_measured_a_sensitivity(
    made: Made, preset: Preset
) -> None:
    canonical, found = made[preset]
    graph = canonical.model.graph
    linears = [str(node.name) for node in composites(graph, LINEAR)]
    attentions = [str(node.name) for node in composites(graph, ATTENTION)]
    products = found.layers[: len(linears + attentions)]  # what may follow is no product
    assert [layer.name for layer in products] == linears + attentions
    for layer in products:
        assert (layer.sensitivity_db is None) == (preset is Preset.STATIC)  # which measures no single layer
        assert layer.sensitivity_db is None or np.isfinite(layer.sensitivity_db)
        assert layer.reason
        planned = found.plan.linears.get(layer.name) or found.plan.attentions.get(layer.name)
        assert (planned is None) == (layer.form is Form.FLOAT)
        assert (layer.static_range is not None) == (layer.name in linears)


@pytest.mark.parametrize("preset", Preset)
def test_the_recipe_and_the_decisions_come_back_from_plain_json(made: Made, preset: Preset) -> None:
    _, found = made[preset]
    assert plain.read(Method, json.loads(json.dumps(plain.of(found.recipe))), "recipe") == found.recipe
    assert found.recipe.preset == preset.value
    assert found.recipe.calibration_images == COUNT
    goal = GOALS[preset]
    assert found.recipe.target_db == (None if goal is None else goal.target_db)
    for layer in found.layers:
        raw = json.loads(json.dumps(plain.of(layer.record)))
        assert raw == dataclasses.asdict(layer) | {"form": layer.form.value}
        assert plain.read(LayerRecord, raw, "layer") == layer.record


def test_the_same_images_give_the_same_plan(made: Made, paths: list[Path]) -> None:
    _, first = made[Preset.BALANCED]
    _, again = quantized(paths, QuantizeSettings(Preset.BALANCED, COUNT))
    assert first.layers == again.layers
    assert first.recipe == again.recipe
    assert_same_plan(first, again)


def assert_same_plan(first: Quantization, again: Quantization) -> None:
    assert first.plan.linears.keys() == again.plan.linears.keys()
    for name, plan in first.plan.linears.items():
        other: LinearPlan = again.plan.linears[name]
        assert plan.activation == other.activation
        np.testing.assert_array_equal(plan.weight, other.weight)
        np.testing.assert_array_equal(plan.weight_scale, other.weight_scale)
    attentions: dict[str, AttentionPlan] = dict(first.plan.attentions)
    assert attentions == again.plan.attentions


def test_presets_differ_in_the_form_of_layers_never_in_the_weights_of_a_form(made: Made) -> None:
    """A range per row uses other codes than a static one, and so may leave weights another range."""
    compared = 0
    plans = [found.plan.linears for _, found in made.values()]
    for name in set.intersection(*map(set, plans)):
        for other in plans[1:]:
            if type(plans[0][name].activation) is type(other[name].activation):
                np.testing.assert_array_equal(plans[0][name].weight, other[name].weight)
                compared += 1
    assert compared


def test_attention_that_float_computes_faster_stays_float(paths: list[Path]) -> None:
    settings = QuantizeSettings(Preset.FAST, 4)
    _, found = quantized(paths, settings, attentions=FLOAT_FIRST)
    assert not found.plan.attentions


def test_quantizing_leaves_the_function_of_the_float_model(made: Made) -> None:
    canonical, _ = made[Preset.FAST]
    pixels = images(8, 2)
    before = run(lower(small(), lowering(None)), pixels)
    after = run(lower(canonical, lowering(None), FLOAT), pixels)
    assert np.abs(after - before).max() <= 1e-4 * np.abs(before).max()  # float32


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_images_are_enough_to_run(paths: list[Path], count: int) -> None:
    canonical, found = quantized(paths[:count], QuantizeSettings(Preset.FAST))
    assert found.recipe.calibration_images == count
    assert np.isfinite(run(lower(canonical, lowering(None), found.plan), images(4))).all()


def test_progress_is_told_to_the_end_of_every_step(paths: list[Path]) -> None:
    told: list[tuple[str, int, int]] = []
    canonical = small()
    settings = QuantizeSettings(Preset.FAST, 3)
    search_of(canonical, paths, PREPROCESS, settings, lambda *step: told.append(step)).first()
    ends = {what for what, done, count in told if done == count}
    assert {"calibrate", "round weights", "measure layers"} <= ends
    assert [done for what, done, _ in told if what == "calibrate"] == [1, 2, 3]


def test_no_image_is_refused() -> None:
    with pytest.raises(ModelError, match="at least one image"):
        search_of(small(), [], PREPROCESS, QuantizeSettings())


@pytest.mark.parametrize("images_used", [0, -1])
def test_settings_without_images_are_refused(images_used: int) -> None:
    with pytest.raises(ValueError, match="images must be at least 1"):
        QuantizeSettings(images=images_used)


def test_an_unreadable_image_is_refused_by_name(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"broken\.png"):
        search_of(small(), [broken], PREPROCESS, QuantizeSettings())
