"""The gate for maps: what is measured of each image, and the verdict on how many images changed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_edge.errors import DatasetError, ModelError
from vit_edge.gate_report import GateReport, MapMeasure, Measure
from vit_edge.spec import MapLimits, Tolerance, Verdict
from vit_edge.verify.maps import MapChanges, changed_maps, judge_maps, map_changes

IMAGES, SHAPE = 200, (3, 6, 5)


def some_maps(images: int = IMAGES, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((images, *shape)).astype(np.float32)


def measure_of(report: GateReport, measure: Measure) -> MapMeasure:
    (found,) = (each for each in report.evidence.maps if each.measure is measure)
    assert found.mean_ci95[0] <= found.mean <= found.mean_ci95[1]
    assert found.beyond_ci95[0] <= found.beyond <= found.beyond_ci95[1]
    return found


@given(st.integers(0, 2**31), st.floats(0.01, 3.0))
def test_correlation_is_numpys_and_difference_is_the_mean(seed: int, noise: float) -> None:
    exact = some_maps(4, seed=seed)
    other = exact + np.float32(noise) * some_maps(4, seed=seed + 1)
    found = map_changes("m", exact, other)
    pairs = zip(exact.reshape(4, -1), other.reshape(4, -1), strict=True)
    assert found.correlation == pytest.approx([np.corrcoef(one, two)[0, 1] for one, two in pairs], abs=1e-6)
    assert found.difference == pytest.approx(np.abs(other - exact).mean(axis=(1, 2, 3)), rel=1e-5)


def test_overlap_is_the_mean_over_the_channels_that_either_shows() -> None:
    exact, other = np.zeros((1, 3, 1, 4), np.float32), np.zeros((1, 3, 1, 4), np.float32)
    exact[0, [0, 0, 1, 1], 0, range(4)] = 1
    other[0, [0, 1, 1, 1], 0, range(4)] = 1
    overlap = map_changes("m", exact, other).overlap
    assert overlap is not None
    assert overlap[0] == pytest.approx((1 / 2 + 2 / 3) / 2)  # the third channel is nowhere the largest
    assert map_changes("m", exact[:, :1], other[:, :1]).overlap is None


@pytest.mark.parametrize(("shift", "expected"), [(0.0, 1.0), (0.5, 0.0)])
def test_a_map_without_contrast_correlates_with_itself_alone(shift: float, expected: float) -> None:
    flat = np.full((1, 1, 4, 4), 0.25, np.float32)
    assert map_changes("m", flat, flat + np.float32(shift)).correlation[0] == expected


@pytest.mark.parametrize(
    ("spoilt", "verdict"), [(0, Verdict.PASS), (4, Verdict.UNDECIDED), (60, Verdict.FAIL)]
)
def test_the_verdict_is_about_the_share_of_images_whose_map_changed(spoilt: int, verdict: Verdict) -> None:
    exact = some_maps()
    other = exact + np.float32(1e-3)
    other[:spoilt] = some_maps(spoilt, seed=1)
    report = judge_maps([map_changes("m", exact, other)], Tolerance(max_changed=3.0))
    assert report.verdict is verdict
    assert report.agreement == pytest.approx(100 * (1 - spoilt / IMAGES))
    for measure in (Measure.CORRELATION, Measure.OVERLAP):
        found = measure_of(report, measure)
        assert found.beyond == pytest.approx(100 * spoilt / IMAGES)
        assert found.verdict is verdict
    assert report.to_json()["evidence"]["maps"][0]["measure"] == "correlation"


def test_a_shift_of_a_single_channel_shows_in_the_difference_alone() -> None:
    exact = some_maps(shape=(1, 6, 5))
    changes = map_changes("m", exact, exact + np.float32(1.0))
    report = judge_maps([changes], Tolerance())
    span = float(np.ptp(exact))
    assert measure_of(report, Measure.CORRELATION).verdict is Verdict.PASS
    found = measure_of(report, Measure.DIFFERENCE)
    assert found.mean == pytest.approx(100 / span, rel=1e-4)
    assert (found.beyond, found.verdict) == (100.0, Verdict.FAIL)
    assert (
        report.verdict is Verdict.FAIL
    )  # an image has changed where any of its measures is beyond its limit


def test_limits_are_those_that_were_asked_for() -> None:
    exact = some_maps(shape=(1, 6, 5))
    changes = [map_changes("m", exact, exact + np.float32(1.0))]
    loose = MapLimits(max_difference=40.0)
    assert judge_maps(changes, Tolerance(maps=loose)).verdict is Verdict.PASS
    kept = [changed_maps(changes, limits)[1].argmax(axis=1) for limits in (loose, MapLimits())]
    assert not kept[0].any()
    assert kept[1].all()


def test_every_output_is_judged() -> None:
    exact, other = some_maps(), some_maps(shape=(7,), seed=2)
    report = judge_maps([map_changes("a", exact, exact), map_changes("b", other, -other)], Tolerance())
    assert {
        each.output: each.verdict for each in report.evidence.maps if each.measure is Measure.CORRELATION
    } == {
        "a": Verdict.PASS,
        "b": Verdict.FAIL,
    }
    assert report.verdict is Verdict.FAIL


def test_batches_join_to_the_whole_and_rows_can_be_left_out() -> None:
    exact, other = some_maps(), some_maps(seed=3)
    whole = map_changes("m", exact, other)
    parts = map_changes("m", exact[:50], other[:50]).joined(map_changes("m", exact[50:], other[50:]))
    rows = np.arange(0, IMAGES, 3)
    for field in ("correlation", "difference", "overlap", "signal", "noise", "low", "high"):
        np.testing.assert_array_equal(getattr(parts, field), getattr(whole, field))
        np.testing.assert_array_equal(getattr(whole.at(rows), field), getattr(whole, field)[rows])


@pytest.mark.parametrize(
    ("exact", "other", "found"),
    [
        (some_maps(2), some_maps(2, (3, 6, 4)), "cannot be compared"),
        (some_maps(2), some_maps(2) * np.float32(np.nan), "not finite"),
        (some_maps(0), some_maps(0), "cannot be compared"),
    ],
    ids=["another shape", "not finite", "no image"],
)
def test_maps_that_cannot_be_compared_are_refused(exact: np.ndarray, other: np.ndarray, found: str) -> None:
    with pytest.raises(ModelError, match=found):
        map_changes("m", exact, other)


def test_maps_that_are_the_same_everywhere_are_refused() -> None:
    flat = np.full((3, 1, 4, 4), 0.5, np.float32)
    changes: MapChanges = map_changes("m", flat, flat)
    with pytest.raises(DatasetError, match="m is the same everywhere on all images"):
        judge_maps([changes], Tolerance())


@pytest.mark.parametrize(
    "limits",
    [{"min_correlation": 1.0}, {"max_difference": 0.0}, {"max_difference": 101.0}, {"min_overlap": 0.0}],
)
def test_limits_that_say_nothing_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(limits))):
        MapLimits(**limits)
