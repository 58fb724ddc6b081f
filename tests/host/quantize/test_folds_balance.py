"""Folds change no function, their effect on what was observed is exact, and balancing only ever helps."""

import copy

import numpy as np
import onnx_ir as ir
import pytest

from tests.host.quantize.small_vit import PREPROCESS, images, lowering, run, small
from vit_edge.arrays import Float64
from vit_edge.host.lower.model import lower
from vit_edge.host.quantize import folds
from vit_edge.host.quantize.balance import Glimpse, _linear_noise, balance
from vit_edge.host.quantize.observe import observer_of
from vit_edge.host.quantize.tally import Activation, Tallies
from vit_edge.host.rewrite.canonical import Canonical
from vit_edge.host.rewrite.composites import ATTENTION, composites, is_op
from vit_edge.host.rewrite.values import constant_of, linear_parts

SAME = 1e-4  # of the largest logit; float32 with weights of very different size


def observed(canonical: Canonical, count: int = 6) -> dict[str, Activation]:
    observer, calibration = observer_of(canonical, PREPROCESS), Tallies()
    for pixels in images(count):
        observer.add(calibration, pixels)
    return calibration.finished()


def norms(canonical: Canonical) -> list[ir.Node]:
    return [node for node in canonical.model.graph if is_op(node, "LayerNormalization")]


def assert_same_function(before: np.ndarray, canonical: Canonical) -> None:
    after = run(lower(canonical, lowering(None)), images(8, 1))
    assert np.abs(after - before).max() <= SAME * np.abs(before).max()


@pytest.mark.parametrize("kind", ["norm", "values", "keys"])
def test_every_fold_preserves_the_function_whatever_its_scale_and_shift(kind: str) -> None:
    canonical = small()
    before = run(lower(canonical, lowering(None)), images(8, 1))
    graph, rng = canonical.model.graph, np.random.default_rng(0)

    def drawn(size: int) -> tuple[Float64, Float64]:
        return np.exp(rng.normal(0, 0.7, size)), rng.normal(0, 1, size)

    changed = 0
    for norm in norms(canonical) if kind == "norm" else []:
        assert folds.norm_readers(norm)
        folds.fold_norm(graph, norm, *drawn(72))
        changed += 1
    for attention in composites(graph, ATTENTION) if kind != "norm" else []:
        columns = [folds.operand_columns(attention, i) for i in range(3)]
        assert None not in columns
        if kind == "keys" and columns[0] is not None and columns[1] is not None:
            folds.fold_keys(graph, columns[0], columns[1], *drawn(72))
        projection = folds.projection_of(attention)
        if kind == "values" and columns[2] is not None and projection is not None:
            folds.fold_values(graph, columns[2], projection, *drawn(72))
        changed += 1
    assert changed >= 3
    assert_same_function(before, canonical)


def test_balancing_preserves_the_function() -> None:
    canonical = small()
    before = run(lower(canonical, lowering(None)), images(8, 1))
    applied = balance(canonical.model.graph, observed(canonical)).folds
    assert len(applied) == 7 + 3 + 3  # norms, values, keys
    assert any(fold.strength > 0 for fold in applied)
    assert_same_function(before, canonical)


def test_what_folding_predicts_is_what_a_second_pass_observes() -> None:
    canonical = small()
    seen = observed(canonical)
    balance(canonical.model.graph, seen)
    for name, again in observed(canonical).items():
        predicted = seen[name]
        size = np.maximum(np.abs(again.low), np.abs(again.high)).max()
        for field in ("low", "high", "mean"):
            difference = np.abs(getattr(predicted, field) - getattr(again, field)).max()
            assert difference <= 1e-4 * size, (name, field)  # float32 activations three blocks deep
        assert predicted.rows == again.rows
        # every row was sampled, in an order that depends on which one is the most extreme
        gram, again_gram = (kept.sample.T @ kept.sample for kept in (predicted, again))
        assert predicted.sample.shape == again.sample.shape
        np.testing.assert_allclose(gram, again_gram, atol=2e-4 * np.abs(again_gram).max(), err_msg=name)
        if again.moment is not None and predicted.moment is not None:
            scale = np.abs(again.moment).max()
            np.testing.assert_allclose(predicted.moment, again.moment, atol=2e-4 * scale, err_msg=name)


def test_balancing_never_raises_the_predicted_noise_and_lowers_it_where_channels_differ() -> None:
    canonical = small()
    seen = observed(canonical)
    graph = canonical.model.graph

    def noises() -> dict[str, float]:
        return {
            str(norm.name): sum(
                _linear_noise(Glimpse.of(seen[str(linear.name)]), linear_parts(linear)[1])
                for linear in folds.norm_readers(norm)
            )
            for norm in norms(canonical)
        }

    before = noises()
    balance(graph, seen)
    after = noises()
    # float32 weights: folding rounds them; the values fold comes later and touches no norm reader's input
    assert all(after[name] <= before[name] * 1.01 for name in before)
    assert min(after[name] / before[name] for name in before if ".norm" in name) < 0.5


@pytest.mark.parametrize("other", ["a graph output", "an operator that is no Linear"])
def test_a_norm_that_something_else_reads_is_left_alone(other: str) -> None:
    canonical = small()
    graph = canonical.model.graph
    seen = observed(canonical)
    norm = norms(canonical)[1]
    given = np.array(constant_of(norm.inputs[1]))
    if other == "a graph output":
        graph.outputs.append(norm.outputs[0])
    else:
        graph.append(ir.Node("", "Relu", [norm.outputs[0]], outputs=[ir.Value(name="other")]))
    assert folds.norm_readers(norm) == []
    applied = balance(graph, seen).folds
    assert str(norm.name) not in [fold.where for fold in applied]
    np.testing.assert_array_equal(constant_of(norm.inputs[1]), given)


def test_a_norm_whose_readers_were_not_observed_is_left_alone() -> None:
    canonical = small()
    seen = observed(canonical)
    del seen["blocks.1.fc1"]
    applied = balance(canonical.model.graph, seen).folds
    assert "blocks.1.norm2" not in [fold.where for fold in applied]


def test_attention_whose_output_two_layers_read_has_no_projection_to_fold_into() -> None:
    canonical = small()
    attention = next(composites(canonical.model.graph, ATTENTION))
    assert folds.projection_of(attention) is not None
    node = ir.Node("", "Relu", [attention.outputs[0]], outputs=[ir.Value(name="other")])
    canonical.model.graph.append(node)
    assert folds.projection_of(attention) is None


def test_folding_there_and_back_is_the_identity() -> None:
    seen = observed(small())["blocks.0.fc1"]
    rng = np.random.default_rng(0)
    scale, shift = np.exp(rng.normal(size=72)), rng.normal(size=72)
    back = copy.deepcopy(seen).folded(scale, shift).folded(1 / scale, -shift / scale)
    np.testing.assert_allclose(back.low, seen.low, rtol=1e-9, atol=1e-9)
    assert back.moment is not None
    assert seen.moment is not None
    np.testing.assert_allclose(back.moment, seen.moment, rtol=0, atol=1e-6 * np.abs(seen.moment).max())
