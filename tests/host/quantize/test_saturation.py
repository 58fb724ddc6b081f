"""Pair sums in int16: the emulation against the definition and against real kernels, and the bounds."""

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.host.quantize import integer_products
from tests.host.quantize.activations import activation_of
from vit_edge.host.affine import Affine
from vit_edge.host.plan import RowRange
from vit_edge.host.quantize.saturation import (
    CODE,
    LIMIT,
    LOWEST,
    MARGIN,
    box_corners,
    outermost,
    pair_reach,
    saturating_product,
    seen_corners,
)

EMULATOR = "qemu-x86_64"
FEW = settings(max_examples=40, deadline=None, derandomize=True)
Codes = npt.NDArray[np.uint8]
Weights = npt.NDArray[np.int8]


def drawn(seed: int, rows: int, inner: int, columns: int) -> tuple[Codes, Weights]:
    rng = np.random.default_rng(seed)
    codes = rng.choice([0, 1, 127, 128, 254, 255], (rows, inner))
    weights = rng.choice([-128, -127, -64, -1, 0, 1, 63, 64, 65, 126, 127], (inner, columns))
    return codes.astype(np.uint8), weights.astype(np.int8)


def by_definition(codes: Codes, weights: Weights) -> npt.NDArray[np.int64]:
    """VPMADDUBSW, VPMADDWD with ones, VPADDD, one element after the other."""
    made = np.zeros((len(codes), weights.shape[1]), np.int64)
    for row, column in np.ndindex(*made.shape):
        for k in range(0, len(weights), 2):
            products = [
                int(codes[row, i]) * int(weights[i, column]) for i in range(k, min(k + 2, len(weights)))
            ]
            made[row, column] += max(LOWEST, min(LIMIT, sum(products)))
    return made


@FEW
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 9), st.integers(1, 5))
def test_every_pair_of_products_saturates_by_itself(seed: int, rows: int, inner: int, columns: int) -> None:
    codes, weights = drawn(seed, rows, inner, columns)
    np.testing.assert_array_equal(saturating_product(codes, weights), by_definition(codes, weights))


@pytest.mark.parametrize(
    ("codes", "weights", "product"),
    [
        ([255, 255], [127, 127], 32767),
        ([255, 255], [-128, -128], -32768),
        ([255, 255], [64, 64], 32640),
        ([255, 255], [127, -127], 0),
        ([255, 0, 255, 0], [127, 127, 127, 127], 64770),  # two pairs, each within int16
        ([0, 255, 255, 0], [127, 127, 127, 127], 64770),
        ([255], [127], 32385),  # the last of an odd number stands alone
        ([255, 255, 255], [127, 127, 127], 32767 + 32385),
    ],
)
def test_neighbours_from_the_beginning_are_paired(codes: list[int], weights: list[int], product: int) -> None:
    made = saturating_product(np.array([codes], np.uint8), np.array(weights, np.int8)[:, None])
    assert made.tolist() == [[product]]


@FEW
@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 5))
def test_the_reach_of_a_column_is_attained_and_never_passed(seed: int, inner: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.integers(-128, 128, (inner, columns)).astype(np.int8)
    low, high = np.sort(rng.integers(0, 256, (2, inner)), axis=0)
    reach = pair_reach(weights, box_corners(low, high))
    odd = (0, inner % 2)
    wide = np.pad(weights.astype(np.int64), (odd, (0, 0)))
    ends = np.pad(np.stack([low, high]), ((0, 0), odd))
    best = np.zeros(columns, np.int64)
    for k in range(0, inner, 2):
        corners = np.array([[first, second] for first in ends[:, k] for second in ends[:, k + 1]])
        best = np.maximum(best, np.abs(corners @ wide[k : k + 2]).max(axis=0))
    np.testing.assert_array_equal(reach, best)


@FEW
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_a_column_within_its_reach_is_computed_exactly(seed: int, inner: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.integers(-128, 128, (inner, 20)).astype(np.int8)
    low, high = np.sort(rng.integers(0, 256, (2, inner)), axis=0)
    safe = pair_reach(weights, box_corners(low, high)) < LIMIT + 1
    codes = rng.integers(low, high + 1, (30, inner)).astype(np.uint8)
    exact = codes.astype(np.int64) @ weights
    np.testing.assert_array_equal(saturating_product(codes, weights)[:, safe], exact[:, safe])


@FEW
@given(st.integers(0, 10_000), st.integers(1, 300))
def test_a_polygon_holds_all_points_and_little_more(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 256, (count, 2)).astype(float)
    weights = rng.integers(-127, 128, (2, 200))
    reach, bound = (np.abs(some @ weights).max(axis=0) for some in (points, outermost(points)))
    assert (bound >= reach - 1e-6).all()
    spread = np.hypot(*(points.max(axis=0) - points.min(axis=0)))
    assert (bound <= reach + 0.05 * spread * np.hypot(*weights) + 1e-6).all()


@FEW
@given(st.integers(0, 10_000), st.integers(2, 9))
def test_a_column_within_reach_of_what_was_seen_is_exact_on_all_of_it(seed: int, inner: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 40, (80, inner)).astype(np.float32)
    weights = rng.integers(-127, 128, (inner, 30)).astype(np.int8)
    for reach in (Affine(1.0, 128), RowRange()):
        safe = pair_reach(weights, seen_corners(activation_of(rows), reach)) < LIMIT + 1
        scaled = rows if isinstance(reach, Affine) else rows / np.abs(rows).max(axis=1)[:, None] * 127.5
        codes = np.clip(np.rint(scaled) + 128, 0, CODE).astype(np.uint8)
        made = saturating_product(codes, weights)
        np.testing.assert_array_equal(made[:, safe], (codes.astype(np.int64) @ weights)[:, safe])


def test_other_images_may_reach_twice_as_far_as_those_of_calibration() -> None:
    values = np.tile(np.array([[-20.0, 0.0], [20.0, 300.0]], np.float32), (50, 1))
    corners = seen_corners(activation_of(values), Affine(1.0, 100))[0]
    moved = round(20 * (1 + MARGIN))
    assert moved == 40
    assert corners[:, 0].min() == pytest.approx(100 - moved, abs=1e-6)
    assert corners[:, 0].max() == pytest.approx(100 + moved, abs=1e-6)
    assert corners[:, 1].max() == pytest.approx(CODE, abs=1e-6)  # where codes end


def test_neighbours_that_are_never_large_together_leave_each_other_room() -> None:
    apart = np.array([[255.0, 0.0], [0.0, 255.0]], np.float32)
    weights = np.full((2, 1), 127, np.int8)
    alone = pair_reach(weights, seen_corners(activation_of(apart), Affine(1.0, 0)))
    boxed = pair_reach(weights, box_corners(np.array([0, 0]), np.array([255, 255])))
    assert alone == pytest.approx(255 * 127, rel=0.006)
    assert boxed == 2 * 255 * 127


@pytest.mark.skipif(
    shutil.which(EMULATOR) is None or platform.machine() != "x86_64",
    reason=f"needs {EMULATOR} (Debian: qemu-user) on x86-64, to run onnxruntime on a CPU without VNNI",
)
def test_onnxruntime_without_vnni_gives_the_emulated_integers(tmp_path: Path) -> None:
    script, out = Path(integer_products.__file__), tmp_path / "products.npz"
    command = [EMULATOR, "-cpu", "Haswell", sys.executable, str(script), str(out)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    saved = np.load(out)
    cases = [name.removesuffix("|a") for name in saved.files if name.endswith("|a")]
    assert len(cases) == 5 * 4 * 2 * 2 * 2
    saturated = 0
    for case in cases:
        codes, weights = saved[f"{case}|a"], saved[f"{case}|b"]
        zero = int(case.partition("zero point ")[2].partition(",")[0])
        sums = weights.sum(axis=0, dtype=np.int64)
        predicted = saturating_product(codes, weights) - zero * sums
        np.testing.assert_array_equal(saved[f"{case}|y"], predicted, err_msg=case)
        saturated += int((predicted != codes.astype(np.int64) @ weights - zero * sums).sum())
    assert saturated > 10_000  # or the operands would prove nothing
