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

from tests.quantize import integer_products
from tests.quantize.activations import activation_of
from vit_edge.host.plan import RowRange, StaticRange
from vit_edge.host.quantize.saturation import CODE, LIMIT, LOWEST, code_box, pair_reach, saturating_product

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
    reach = pair_reach(weights, low, high)
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
    safe = pair_reach(weights, low, high) <= LIMIT
    codes = rng.integers(low, high + 1, (30, inner)).astype(np.uint8)
    exact = codes.astype(np.int64) @ weights
    np.testing.assert_array_equal(saturating_product(codes, weights)[:, safe], exact[:, safe])


def test_a_static_box_holds_what_calibration_saw_with_room_on_either_side() -> None:
    rows = np.array([[-1.0, 0.0, 10.0], [1.0, 0.5, 300.0]], np.float32)
    low, high = code_box(activation_of(rows), StaticRange(1.0, 100))
    assert low.tolist() == [98, 99, 37]  # a quarter of each channel's range further down
    assert high.tolist() == [102, 101, CODE]


def test_rows_with_a_scale_of_their_own_take_every_code() -> None:
    low, high = code_box(activation_of(np.ones((2, 3), np.float32)), RowRange())
    assert low.tolist() == [0, 0, 0]
    assert high.tolist() == [CODE, CODE, CODE]


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
