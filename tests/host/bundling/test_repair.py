"""Repair: when it starts, how it climbs and steps back, how often it tries, and at what confidence."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.host.bundling.synthetic import SyntheticSearch, comparison, layers_with, trial
from vit_edge.host.bundling.repair import (
    LADDER,
    REPAIRED_TRIALS,
    Standing,
    Trial,
    Try,
    corrected,
    repaired,
)
from vit_edge.host.quantize.types import Form, Goal, Quantization
from vit_edge.spec import Tolerance, Verdict
from vit_edge.verify.paired import score_interval

NOISES = [0.08, 0.04, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005]  # 8.0 dB together


def judged_by(least_db: float, n: int = 1000) -> tuple[list[str], Try]:
    """A gate that every quantization passes from so many dB on, and fails below, and what it was asked."""
    tolerance = corrected(Tolerance())
    asked: list[str] = []

    def try_(name: str, found: Quantization) -> Trial:
        asked.append(name)
        return trial(name, 0 if found.recipe.probe_db >= least_db else n // 10, n, tolerance, found)

    return asked, try_


def repaired_to(least_db: float, search: SyntheticSearch) -> list[Trial]:
    asked, try_ = judged_by(least_db)
    first = trial("static", 100, found=search.plain())
    trials = repaired(search, first, try_, Standing.PASS)
    assert [each.name for each in trials] == ["static", *asked]
    return trials


@pytest.mark.parametrize(
    ("lost", "n", "standing", "wanting"),
    [
        (0, 1000, Standing.PASS, False),
        (0, 50, Standing.PLAUSIBLE, False),  # too few images, nothing speaks against the model
        (1, 50, Standing.DOUBTFUL, True),  # 2 points, of which 1 is tolerated
        (50, 1000, Standing.FAIL, True),
    ],
)
@pytest.mark.parametrize("labelled", [True, False])
def test_repair_starts_where_a_model_fails_or_seems_to(
    lost: int, n: int, standing: Standing, wanting: bool, labelled: bool
) -> None:
    seen = comparison(lost, n, Tolerance(max_changed=1.0), labelled=labelled)
    assert Standing.of(seen.report) is standing
    found = Trial("a", trial("a", 0).quantization, {}, {"a": seen, "b": comparison(0, 1000)})
    assert found.failing == ({"a"} if wanting else set())


@pytest.mark.parametrize(
    ("lost", "verdict"), [((0, 0), "PASS"), ((0, 10), "UNDECIDED"), ((50, 10), "FAIL"), ((50, 0), "FAIL")]
)
def test_a_look_is_as_good_as_its_worst_file(lost: tuple[int, int], verdict: str) -> None:
    judged = {str(i): comparison(each, 1000) for i, each in enumerate(lost)}
    assert Trial("a", trial("a", 0).quantization, {}, judged).verdict is Verdict(verdict)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_repaired_looks_share_what_the_first_leaves_of_the_error(confidence: float) -> None:
    """A PASS errs on one side only: half of 1 - c at the first trial, and as much at all the others."""
    strict = corrected(Tolerance(confidence=confidence)).confidence
    assert (1 - confidence) / 2 + REPAIRED_TRIALS * (1 - strict) / 2 == pytest.approx(1 - confidence)


def test_a_build_that_looks_as_often_as_it_may_still_passes_wrongly_no_more_often_than_stated() -> None:
    """Each trial is at another model, just too bad to be tolerated, on images of its own: the worst there is.

    Allowed: three standard errors of the simulation.
    """
    rng, n, runs, drop = np.random.default_rng(0), 2000, 1500, 0.01
    first = Tolerance(100 * drop)
    wrong = 0
    for _ in range(runs):
        for tolerance in (first, *[corrected(first)] * REPAIRED_TRIALS):
            lost, gained = rng.multinomial(n, [drop + 0.01, 0.01, 0.98 - drop])[:2]
            # the score interval errs no less than the exact one, and takes a thousandth of the time
            if score_interval(lost, gained, n, tolerance.confidence)[1] <= drop:
                wrong += 1
                break
    stated = 1 - first.confidence
    assert 0.5 * stated < wrong / runs < stated + 3 * (stated * (1 - stated) / runs) ** 0.5


def test_the_first_rung_that_passes_ends_the_climb() -> None:
    trials = repaired_to(25.0, SyntheticSearch(layers_with(NOISES, added=0.001)))
    assert [each.name for each in trials] == ["static", "22.5 dB", "26.5 dB"]
    assert [each.standing for each in trials] == [Standing.FAIL, Standing.FAIL, Standing.PASS]


def test_what_was_not_needed_is_stepped_back_and_checked_again() -> None:
    """15 dB needs three of the upgrades that 22.5 dB makes five of; bisection finds that."""
    search = SyntheticSearch(layers_with(NOISES))
    trials = repaired_to(15.0, search)
    assert trials[1].name == "22.5 dB"
    assert all("of 5 upgrades" in each.name for each in trials[2:])
    passing = [each for each in trials if each.standing is Standing.PASS]
    fastest = min(passing, key=lambda each: search.milliseconds(each.quantization))
    assert fastest.name == "22.5 dB, 3 of 5 upgrades"
    kept = [layer.name for layer in fastest.quantization.layers if layer.form is not Form.STATIC]
    assert kept == ["layer.0", "layer.1", "layer.2"]  # those that remove most noise
    assert search.milliseconds(fastest.quantization) < search.milliseconds(trials[1].quantization)


def test_upgrades_that_cost_no_time_are_kept_without_a_look() -> None:
    trials = repaired_to(15.0, SyntheticSearch(layers_with(NOISES, added=0.001)))
    assert [each.name for each in trials] == ["static", "22.5 dB"]


def test_nothing_is_looked_at_twice() -> None:
    """All rungs ask for the same forms here: there is nothing between them."""
    search = SyntheticSearch(layers_with([0.1, 1e-9, 1e-9]))
    trials = repaired_to(1000.0, search)
    forms = [tuple((layer.name, layer.form) for layer in each.quantization.layers) for each in trials]
    assert len(set(forms)) == len(forms)
    assert len(trials) < len(search.asked) + 1


def test_where_nothing_passes_every_rung_is_tried_and_no_step_is_taken_back() -> None:
    trials = repaired_to(1000.0, SyntheticSearch(layers_with(NOISES)))
    assert [each.name for each in trials] == ["static", *(f"{goal.target_db:g} dB" for goal in LADDER)]
    assert all(each.standing is Standing.FAIL for each in trials)


def test_goals_that_were_reached_or_asked_for_are_not_asked_for_again() -> None:
    search = SyntheticSearch(layers_with(NOISES))
    _, try_ = judged_by(1000.0)
    first = trial("balanced", 100, found=search.reach(Goal(26.5)))
    search.asked.clear()
    repaired(search, first, try_, Standing.PASS)
    assert search.asked == ["29.5", "33"]


def test_where_the_images_can_show_no_pass_a_tolerable_estimate_is_enough() -> None:
    search = SyntheticSearch(layers_with(NOISES))
    _, try_ = judged_by(25.0, n=50)
    trials = repaired(search, trial("static", 5, 50, found=search.plain()), try_, Standing.PLAUSIBLE)
    assert trials[2].name == "26.5 dB"
    assert trials[2].standing is Standing.PLAUSIBLE


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.floats(1e-6, 0.2), min_size=1, max_size=12),
    st.floats(1, 60),
    st.floats(0, 3),
)
def test_however_it_goes_looks_are_bounded_and_the_best_seen_is_found(
    noises: list[float], least_db: float, added: float
) -> None:
    search = SyntheticSearch(layers_with(noises, added))
    trials = repaired_to(least_db, search)
    assert len(trials) <= 1 + REPAIRED_TRIALS
    assert len({each.name for each in trials}) == len(trials)
    first_pass = next((i for i, each in enumerate(trials) if each.standing is Standing.PASS), None)
    if first_pass is not None:
        later = [each for each in trials[first_pass:] if each.standing is Standing.PASS]
        costs = [search.milliseconds(each.quantization) for each in later]
        assert costs == sorted(costs, reverse=True)  # every step back that passes is faster than the last
