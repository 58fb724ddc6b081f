"""Outlier channels get a branch of their own: the same function, a shorter range; others are left alone."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from tests.host.quantize.small_vit import DIM, PREPROCESS, decibels, images, lowering, run, small, written
from tests.host.quantize.test_folds_balance import assert_same_function, observed
from vit_edge.host.lower.model import lower
from vit_edge.host.quantize import calibration as calibration_module
from vit_edge.host.quantize.calibration import calibrate, fold
from vit_edge.host.quantize.folds import set_inputs
from vit_edge.host.quantize.outliers import outlying, split_outliers
from vit_edge.host.quantize.plan_set import plan_set
from vit_edge.host.quantize.plans import LayerPlans
from vit_edge.host.quantize.types import Form, Preset, QuantizeSettings
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.values import constant_of, linear_parts
from vit_edge.manifest import OutlierChannels
from vit_edge.spec import Arithmetic

HIDDEN = 2 * DIM


def named(canonical: Canonical, name: str) -> ir.Node:
    return next(node for node in canonical.model.graph if node.name == name)


def massive(channels: Sequence[int], block: int = 1, dim: int = DIM) -> Canonical:
    """A small model; these hidden channels of a block are the first of them, a hundred times as large."""
    canonical = small(dim=dim)
    graph = canonical.model.graph
    first, second = (named(canonical, f"blocks.{block}.{name}") for name in ("fc1", "fc2"))
    _, weight, bias = linear_parts(first)
    _, back, added = linear_parts(second)
    weight, back = weight.copy(), back.copy()
    weight[:, channels] = 100.0 * weight[:, channels[:1]]
    back[channels] /= 100.0
    set_inputs(graph, first, [weight] if bias is None else [weight, bias])
    set_inputs(graph, second, [back] if added is None else [back, added])
    return canonical


def wide() -> Canonical:
    """Of more than two hundred hidden channels two are outliers."""
    return massive([5, 130], dim=108)


def in_static(plans: LayerPlans, prefix: str) -> dict[str, Form]:
    """Layers of these names in one static range, all others in float."""
    names = [*plans.linears, *plans.attentions]
    return {name: Form.STATIC if name.startswith(prefix) else Form.FLOAT for name in names}


def test_the_function_stays_and_the_range_shrinks() -> None:
    canonical = massive([5])
    before = run(lower(canonical, lowering(None)), images(8, 1))
    seen = observed(canonical)
    (found,) = split_outliers(canonical.model.graph, seen)
    assert (found.where, found.channels) == ("blocks.1.fc2", (5,))
    assert found.reach_without <= found.reach_with / 2
    assert_same_function(before, canonical)


def test_what_is_predicted_of_each_part_is_what_a_second_pass_observes() -> None:
    canonical = massive([5])
    seen = observed(canonical)
    split_outliers(canonical.model.graph, seen)
    again = observed(canonical)
    assert set(again) == set(seen)
    for name in ("blocks.1.fc1", "blocks.1.fc1.outlier5", "blocks.1.fc2"):
        size = max(np.abs(again[name].low).max(), np.abs(again[name].high).max())
        for field in ("low", "high", "mean"):
            difference = np.abs(getattr(seen[name], field) - getattr(again[name], field)).max()
            assert difference <= 1e-4 * size, (name, field)
        predicted, moment = seen[name].moment, again[name].moment
        assert predicted is not None
        assert moment is not None
        np.testing.assert_allclose(predicted, moment, atol=2e-4 * np.abs(moment).max(), err_msg=name)
        assert seen[name].sample.shape == again[name].sample.shape


def test_a_split_model_is_quantized_with_less_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = written(tmp_path, 6)
    canonical, given = massive([5]), images(6, 2)
    settings = QuantizeSettings(Preset.STATIC, 6, arithmetics=(Arithmetic.EXACT,))
    folded = fold(canonical, calibrate(canonical, paths, PREPROCESS, settings))
    assert [found.channels for found in folded.outliers] == [(5,)]
    plans = plan_set(folded, settings.arithmetics).exact
    exact = run(lower(canonical, lowering(None)), given)
    split = lower(
        folded.canonical,
        lowering(None),
        plans.chosen(in_static(plans, "blocks.1.fc")),
    )
    monkeypatch.setattr(calibration_module, "split_outliers", lambda *_: [])
    whole = fold(canonical, calibrate(canonical, paths, PREPROCESS, settings))
    kept = plan_set(whole, settings.arithmetics).exact
    together = lower(whole.canonical, lowering(None), kept.chosen(in_static(kept, "blocks.1.fc")))
    assert decibels(exact, run(split, given)) >= decibels(exact, run(together, given)) + 6.0


def test_the_branch_is_one_column_the_same_nonlinearity_and_one_row() -> None:
    canonical = massive([5])
    split_outliers(canonical.model.graph, observed(canonical))
    thin = named(canonical, "blocks.1.fc1.outlier5")
    product = named(canonical, "blocks.1.fc2.outlier5")
    assert linear_parts(thin)[1].shape == (DIM, 1)
    assert is_op(product, "Mul")
    assert is_op(product.inputs[0], "Gelu")
    row = constant_of(product.inputs[1])
    assert row is not None
    assert row.shape == (1, DIM)
    for name, axis in (("fc1", 1), ("fc2", 0)):  # sizes stay, for kernels are fast at them
        weight = linear_parts(named(canonical, f"blocks.1.{name}"))[1]
        assert weight.shape == ((DIM, HIDDEN) if axis else (HIDDEN, DIM))
        assert not weight.take([5], axis).any()


def test_each_of_several_channels_has_its_own_branch() -> None:
    canonical = wide()
    before = run(lower(canonical, lowering(None)), images(8, 1))
    seen = observed(canonical)
    (found,) = split_outliers(canonical.model.graph, seen)
    assert found.channels == (5, 130)
    assert {f"blocks.1.fc1.outlier{channel}" for channel in found.channels} <= set(seen)
    assert_same_function(before, canonical)


def without_outliers() -> Canonical:
    return small()


def too_many() -> Canonical:
    """More than one channel in a hundred: no outliers, but how the layer is."""
    return massive([3, 50, 99])


def read_twice() -> Canonical:
    canonical = massive([5])
    graph = canonical.model.graph
    second = named(canonical, "blocks.1.fc2")
    other = ir.Node("", "Identity", [second.inputs[0]], name="other")
    graph.append(other)
    return canonical


def returned() -> Canonical:
    canonical = massive([5])
    value = named(canonical, "blocks.1.fc2").inputs[0]
    assert value is not None
    canonical.model.graph.outputs.append(value)
    return canonical


@pytest.mark.parametrize("make", [without_outliers, too_many, read_twice, returned])
def test_a_layer_is_left_alone(make: Callable[[], Canonical]) -> None:
    canonical = make()
    before = [str(node.name) for node in canonical.model.graph]
    seen = observed(massive([5])) if make in (read_twice, returned) else observed(canonical)
    assert split_outliers(canonical.model.graph, seen) == []
    assert [str(node.name) for node in canonical.model.graph] == before


@pytest.mark.parametrize(
    ("reaches", "found"),
    [
        ({7: 40.0}, [7]),
        ({7: -40.0}, [7]),
        ({7: 1.9}, []),  # not twice as far as the rest
        ({7: 40.0, 20: 41.0}, [7, 20]),  # neither alone shortens the range
        ({7: 1000.0, 20: 30.0}, [7, 20]),  # one after the other
        ({7: 40.0, 20: 40.0, 21: 40.0}, []),  # one in a hundred at most
        ({}, []),
    ],
)
def test_channels_are_outliers_only_where_they_alone_double_the_range(
    reaches: dict[int, float], found: list[int]
) -> None:
    low, high = np.full(200, -1.0), np.full(200, 1.0)
    for channel, reach in reaches.items():
        (low if reach < 0 else high)[channel] = reach
    assert outlying(low, high).tolist() == found


def test_more_than_a_few_channels_are_left_where_they_are() -> None:
    high = np.ones(4096)
    high[:5] = 50.0
    assert outlying(-np.ones(4096), high).size == 0
    high[4] = 1.0
    assert outlying(-np.ones(4096), high).tolist() == [0, 1, 2, 3]


def test_a_layer_too_narrow_for_one_in_a_hundred_has_none() -> None:
    assert outlying(np.zeros(99), np.eye(1, 99)[0] * 50.0).size == 0


def test_the_record_says_where_and_how_far(tmp_path: Path) -> None:
    paths = written(tmp_path, 6)
    canonical = massive([5])
    folded = fold(canonical, calibrate(canonical, paths, PREPROCESS, QuantizeSettings(Preset.STATIC, 6)))
    (found,) = folded.outliers
    assert isinstance(found, OutlierChannels)
    assert found.reach_with > 2 * found.reach_without > 0
