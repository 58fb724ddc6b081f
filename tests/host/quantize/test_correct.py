"""Biases are corrected layer by layer: what is left of the mean error of each, and what is kept meanwhile."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.host.quantize.small_vit import PREPROCESS, images, small, written
from vit_edge.arrays import Float64
from vit_edge.host.lower.model import LowerSettings, lower_nodes, lower_taps
from vit_edge.host.plan import FLOAT, QuantPlan
from vit_edge.host.quantize.calibration import calibrate, fold
from vit_edge.host.quantize.correct import correct_biases
from vit_edge.host.quantize.observe import load
from vit_edge.host.quantize.plan_set import plan_set
from vit_edge.host.quantize.types import Form, Preset, QuantizeSettings
from vit_edge.host.quantize.walk import Values, in_stages, needed_for
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.progress import silent

COUNT = 24
SETTINGS = QuantizeSettings(Preset.STATIC, COUNT)
Made = tuple[Canonical, LowerSettings, QuantPlan]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Every layer in integers, with biases that are off by a tenth of what the layers give."""
    paths = written(tmp_path_factory.mktemp("images"), COUNT)
    folded = fold(small(), calibrate(small(), paths, PREPROCESS, SETTINGS))
    plans = plan_set(folded, SETTINGS.arithmetics).meant
    plan = plans.chosen(dict.fromkeys([*plans.linears, *plans.attentions], Form.STATIC))
    rng = np.random.default_rng(0)
    linears = {
        name: dataclasses.replace(
            layer,
            bias=(layer.bias + rng.normal(0, 0.1, len(layer.weight_scale))).astype(np.float32)
            if layer.bias is not None
            else None,
        )
        for name, layer in plan.linears.items()
    }
    plan = dataclasses.replace(plan, linears=linears)
    return folded.canonical, folded.calibration.lowering, plan


def means(canonical: Canonical, settings: LowerSettings, plan: QuantPlan) -> dict[str, Float64]:
    """The mean output of every linear layer over all images, by onnxruntime."""
    names = [f"{name}.out" for name in (plan.linears or small_names(canonical))]
    model, outputs = lower_taps(canonical, settings, plan, names)
    session = load(model.SerializeToString())
    runs = [session.run(outputs, {settings.form.input.value: pixels[None]}) for pixels in images(COUNT)]
    return {
        name: np.mean([run[i].mean(axis=0, dtype=np.float64) for run in runs], axis=0)
        for i, name in enumerate(names)
    }


def small_names(canonical: Canonical) -> list[str]:
    return [str(node.name) for node in canonical.model.graph if node.op_type == "Linear"]


def test_the_mean_error_of_every_layer_is_taken_out(made: Made) -> None:
    """On the images that it was taken over; codes that flip in another engine leave a twentieth."""
    canonical, settings, plan = made
    told: list[tuple[int, int]] = []
    better = correct_biases(canonical, settings, plan, list(images(COUNT)), lambda *step: told.append(step))
    exact, before, after = (means(canonical, settings, each) for each in (FLOAT, plan, better))
    assert set(exact) == set(before) == set(after)
    shares = {}
    for name, wanted in exact.items():
        left, was = (float(np.abs(found[name] - wanted).mean()) for found in (after, before))
        shares[name] = left / was
    assert np.mean(list(shares.values())) < 0.05, shares
    assert max(shares.values()) < 0.2, shares
    assert told == [(i, len(plan.linears)) for i in range(1, len(plan.linears) + 1)]


def test_only_biases_are_changed_and_the_plan_given_is_not(made: Made) -> None:
    canonical, settings, plan = made
    kept = {name: layer.bias for name, layer in plan.linears.items()}
    better = correct_biases(canonical, settings, plan, list(images(COUNT)), silent(""))
    assert better.attentions == plan.attentions
    for name, layer in better.linears.items():
        assert plan.linears[name].bias is kept[name]
        same = dataclasses.replace(layer, bias=kept[name])
        assert all(getattr(same, field.name) is getattr(plan.linears[name], field.name)
                   for field in dataclasses.fields(same))  # fmt: skip


def test_without_a_quantized_layer_nothing_is_done(made: Made) -> None:
    canonical, settings, plan = made
    floats = dataclasses.replace(plan, linears={})
    assert correct_biases(canonical, settings, floats, list(images(COUNT)), silent("")) is floats


def test_images_pass_one_layer_after_the_other_and_keep_only_what_is_read_later(made: Made) -> None:
    canonical, settings, _ = made
    lowered = lower_nodes(canonical, settings)
    stops = {lowered.taps[f"{name}.out"]: name for name in small_names(canonical)}
    known: list[Values] = [{lowered.given: torch.tensor(pixels[None])} for pixels in images(COUNT)]
    passed = []
    for stop in in_stages(needed_for(lowered.outputs, lowered.nodes), stops, known):
        passed.append(stops[stop])
        assert all(stop in values for values in known)
        # the stream of tokens, what this layer gives, and of queries, keys and values what waits for others
        assert all(len(values) <= 4 for values in known), stops[stop]
    assert passed == small_names(canonical)
    (logits,) = lowered.outputs
    exact = load_logits(canonical, settings)
    np.testing.assert_allclose([values[logits][0].numpy() for values in known], exact, rtol=1e-4, atol=1e-4)


def load_logits(canonical: Canonical, settings: LowerSettings) -> list[Float64]:
    model, (output,) = lower_taps(canonical, settings, FLOAT, ["head.out"])
    session = load(model.SerializeToString())
    return [session.run([output], {settings.form.input.value: each[None]})[0][0] for each in images(COUNT)]
