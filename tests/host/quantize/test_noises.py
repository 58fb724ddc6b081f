"""The noise of single layers: what the estimate is worth, and when it is believed."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.host.quantize.small_vit import PREPROCESS, small, written
from vit_edge.host import operators
from vit_edge.host.affine import Affine
from vit_edge.host.operators import NoGradientError
from vit_edge.host.plan import QuantPlan
from vit_edge.host.quantize import estimate as estimate_module
from vit_edge.host.quantize.calibration import calibrate, fold
from vit_edge.host.quantize.estimate import Estimate, LayerForm, Noises, estimated
from vit_edge.host.quantize.noises import AGREEING, Ahead, noises, refined
from vit_edge.host.quantize.plan_set import plan_set
from vit_edge.host.quantize.probe import decibels
from vit_edge.host.quantize.search import Search
from vit_edge.host.quantize.types import Form, Preset, QuantizeSettings
from vit_edge.progress import silent

SETTINGS = QuantizeSettings(Preset.BALANCED, 8)
QUIET = silent("")


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    paths = written(tmp_path_factory.mktemp("images"), 8)
    folded = fold(small(), calibrate(small(), paths, PREPROCESS, SETTINGS))
    return Search(folded, plan_set(folded, SETTINGS.arithmetics), SETTINGS)


def measured(search: Search, which: LayerForm) -> float:
    name, form = which
    if name in search.plans.linears:
        return search.probe.noise(QuantPlan({name: search.plans.linears[name][form]}))
    return search.probe.noise(QuantPlan(attentions={name: search.plans.attentions[name][form]}))


def guessed(search: Search) -> dict[LayerForm, Estimate]:
    probe = search.probe
    return estimated(search.canonical, search.lowering, search.plans, probe.images, probe.weights, QUIET)


def test_an_estimate_is_what_the_layer_alone_does(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind 32 dB; what is louder a random model of three blocks amplifies.

    100 signs leave 0.2 dB to chance; what else differs, 2 dB at most and nothing on average, is that the
    outputs are not linear, which 8 images of 17 tokens do not average out.
    """
    monkeypatch.setattr(estimate_module, "SIGNS", 100)
    found = guessed(search)
    assert set(found) == {
        (name, form)
        for plans in (search.plans.linears, search.plans.attentions)
        for name, forms in plans.items()
        for form in forms
    }
    exact = {which: decibels(measured(search, which)) for which in found}
    off = [decibels(guess.noise) - exact[which] for which, guess in found.items() if exact[which] > 32]
    assert len(off) > len(found) / 2
    assert max(map(abs, off)) < 2.0
    assert abs(np.mean(off)) < 0.5


def test_the_last_layer_is_estimated_without_an_error_but_chance(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logits are its output itself; 8 images, 200 signs: 3.5 % of chance."""
    monkeypatch.setattr(estimate_module, "SIGNS", 200)
    found = guessed(search)["head", Form.STATIC]
    assert found.noise == pytest.approx(measured(search, ("head", Form.STATIC)), rel=0.15)


def test_the_same_layers_give_the_same_estimate(search: Search) -> None:
    assert {which: each.noise for which, each in guessed(search).items()} == {
        which: each.noise for which, each in guessed(search).items()
    }


def test_without_a_gradient_everything_is_measured(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(operators.OPERATORS, "Softmax")
    with pytest.raises(NoGradientError, match="Softmax"):
        guessed(search)
    found = noises(search.plans, search.probe, QUIET)
    assert found == {which: measured(search, which) for which in found}


def test_progress_ends_at_its_end(search: Search) -> None:
    told: list[tuple[int, int]] = []
    noises(search.plans, search.probe, lambda *step: told.append(step))
    assert told[-1][0] == told[-1][1]
    assert all(done <= count for done, count in told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


KIND: list[LayerForm] = [(f"layer.{i}", Form.STATIC) for i in range(20)]
TRUE: Noises = {which: 10.0 ** (-2 - 0.1 * i) for i, which in enumerate(KIND)}  # the noisiest first


def asked(guess: dict[LayerForm, Estimate], at_once: int = 1) -> tuple[Noises, list[LayerForm]]:
    """What is found, and what was measured for it, in the order of `KIND`."""
    looked: list[LayerForm] = []

    def measure(which: LayerForm) -> float:
        looked.append(which)
        return TRUE[which]

    with ThreadPoolExecutor(at_once) as pool:
        found = refined(KIND, guess, Ahead(measure, pool, at_once), lambda _: None)
    return found, sorted(looked, key=KIND.index)


def off_by(decibel: float, count: int = len(KIND)) -> dict[LayerForm, Estimate]:
    """Estimates of which the `count` noisiest are wrong."""
    return {
        which: Estimate(TRUE[which] * 10 ** ((decibel if i < count else 0.2) / 10))
        for i, which in enumerate(KIND)
    }


@pytest.mark.parametrize("decibel", [0.3, 3.0])
@pytest.mark.parametrize("wrong", [1, 7, len(KIND)])
@pytest.mark.parametrize("at_once", [2, 3])
def test_measuring_several_at_once_finds_the_same_and_hardly_more_is_measured(
    decibel: float, wrong: int, at_once: int
) -> None:
    guess = off_by(decibel, wrong)
    found, looked = asked(guess)
    same, more = asked(guess, at_once)
    assert same == found
    assert list(same) == list(found)
    assert set(looked) <= set(more)
    assert len(looked) <= len(more) <= len(looked) + at_once - 1
    assert len(set(more)) == len(more)


def test_what_a_measurement_raises_is_raised_where_it_is_asked_for() -> None:
    def measure(which: LayerForm) -> float:
        if which == KIND[1]:
            raise RuntimeError("the second")
        return TRUE[which]

    with ThreadPoolExecutor(2) as pool, pytest.raises(RuntimeError, match="the second"):
        refined(KIND, {}, Ahead(measure, pool, 2), lambda _: None)


def test_where_estimates_hold_only_the_noisiest_are_measured() -> None:
    found, looked = asked(off_by(0.3))
    assert looked == KIND[:AGREEING]
    assert all(found[which] == TRUE[which] for which in looked)
    assert all(found[which] == pytest.approx(TRUE[which], rel=0.1) for which in KIND)


@pytest.mark.parametrize("decibel", [-6.0, 2.0])
def test_where_no_estimate_holds_everything_is_measured(decibel: float) -> None:
    assert asked(off_by(decibel)) == (TRUE, KIND)


@pytest.mark.parametrize("count", [1, 4])
def test_measuring_goes_on_to_where_estimates_begin_to_hold(count: int) -> None:
    """Too low by a factor of two, they still come first: 3 dB are three places here, and more follow."""
    _, looked = asked(off_by(3.0, count))
    assert looked == KIND[: count + AGREEING]


def test_a_layer_that_spoils_whole_rows_is_measured_however_quiet_it_seems() -> None:
    guess = off_by(0.3)
    guess[KIND[15]] = Estimate(1e-9, spoilt=0.5)
    found, looked = asked(guess)
    assert looked == [*KIND[:AGREEING], KIND[15]]
    assert found[KIND[15]] == TRUE[KIND[15]]


def test_what_was_not_estimated_is_measured() -> None:
    assert asked({}) == (TRUE, KIND)


def test_a_row_that_clipping_cuts_to_half_is_called_spoilt(search: Search) -> None:
    name = "blocks.1.fc1"
    plan = search.plans.linears[name][Form.STATIC]
    assert isinstance(plan.activation, Affine)
    narrow = dataclasses.replace(plan, activation=dataclasses.replace(plan.activation, scale=1e-4))
    plans = dataclasses.replace(search.plans, linears={name: {Form.STATIC: narrow}}, attentions={})
    probe = search.probe
    found = estimated(search.canonical, search.lowering, plans, probe.images, probe.weights, QUIET)
    assert found[name, Form.STATIC].spoilt > 0.25
    usual = guessed(search)[name, Form.STATIC].spoilt
    assert usual < 0.01
    assert np.isfinite(found[name, Form.STATIC].noise)
