"""Plans decide as often as they say, simulated from first look to last."""

import numpy as np
import pytest

from vit_edge.gate_report import Plan, PlanKind
from vit_edge.spec import Tolerance
from vit_edge.verify.paired import score_interval
from vit_edge.verify.plan import POWER, plan_drop, plan_share
from vit_edge.verify.proportion import clopper_pearson
from vit_edge.verify.sequential import drop_sequence

ONE = Tolerance(1.0)


@pytest.mark.parametrize(("lost", "gained", "n"), [(0.004, 0.003, 300), (0.02, 0.0, 300)])
def test_a_fresh_set_of_the_planned_size_decides_in_about_four_of_five_cases(
    lost: float, gained: float, n: int
) -> None:
    """First looks that are undecided, each with its plan carried out on new images of the same kind."""
    rng, decided, undecided = np.random.default_rng(1), 0, 0
    while undecided < 50:
        x, y, _ = rng.multinomial(n, [lost, gained, 1 - lost - gained]).tolist()
        low, high = score_interval(x, y, n, 0.95)
        if high <= 0.01 or low > 0.01:
            continue
        undecided += 1
        plan = plan_drop(x, y, n, ONE, sequential=False)
        if plan.fresh is None:
            continue
        x, y, _ = rng.multinomial(plan.fresh, [lost, gained, 1 - lost - gained]).tolist()
        low, high = score_interval(x, y, plan.fresh, 0.95)
        decided += high <= 0.01 or low > 0.01
    # the rates are uncertain at the first look, so it is the average that is planned for
    assert decided / undecided > 0.65


@pytest.mark.parametrize(("lost", "gained", "n"), [(0, 0, 300), (2, 1, 300)])
def test_the_power_is_that_of_futures_drawn_from_what_was_seen(lost: int, gained: int, n: int) -> None:
    plan = plan_drop(lost, gained, n, ONE, sequential=False)
    assert plan.together is not None
    rng = np.random.default_rng(2)
    rates = rng.dirichlet(np.array([lost, gained, n - lost - gained]) + 0.5, 200)
    decided = 0
    for rate in rates:
        more, better, _ = rng.multinomial(plan.together, rate).tolist()
        low, high = drop_sequence(lost + more, gained + better, n + plan.together, 0.95)
        decided += high <= 0.01 or low > 0.01
    assert decided / 200 == pytest.approx(POWER, abs=0.09)  # three standard errors of 200 futures


def test_more_images_seen_and_none_changed_make_the_plan_shorter() -> None:
    plans = [plan_drop(0, 0, n, ONE, sequential=False).together for n in (50, 150, 300)]
    assert plans == sorted(plans, key=lambda each: -(each or 0))


def test_a_drop_equal_to_the_tolerance_takes_very_many_images() -> None:
    near, far = (plan_drop(lost, 0, 1000, ONE, sequential=False).fresh for lost in (10, 4))
    assert near is None or (far is not None and near > 3 * far)


def test_without_labels_the_plan_is_about_changed_predictions() -> None:
    plan = plan_share(2, 100, Tolerance(max_changed=5.0), sequential=False)
    assert plan.fresh is not None
    expected = round(0.02 * plan.fresh)
    assert clopper_pearson(expected, plan.fresh, 0.95)[1] < 0.05


def test_the_cheaper_way_is_the_plan() -> None:
    assert (Plan(0.8, 10, 20).images, Plan(0.8, 10, 20).kind) == (10, PlanKind.TOGETHER)
    assert (Plan(0.8, None, 20).images, Plan(0.8, None, 20).kind) == (20, PlanKind.FRESH)
    assert (Plan(0.8, None, None).images, Plan(0.8, None, None).kind) == (None, None)
