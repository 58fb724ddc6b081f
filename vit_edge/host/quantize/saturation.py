"""Pair sums of integer products on CPUs that add them in int16: emulation, and bounds for a layer.

An x86-64 CPU without VNNI multiplies uint8 by int8 with VPMADDUBSW: the products of two neighbours along the
inner dimension, a[2i] * b[2i] + a[2i + 1] * b[2i + 1], are added with saturation to [-32768, 32767], and only
pairs are added up in int32. So does onnxruntime's MLAS for AVX2, and for AVX512 without VNNI (its kernels
QgemmU8X8KernelAvx2, QgemvU8S8KernelAvx2, QgemmU8X8KernelAvx512Core): the first operand is the uint8 code as
stored, its zero point being taken off afterwards through column sums; the second is the int8 code as stored;
the inner dimension is packed by four from its beginning, so that pairs are (0, 1), (2, 3), ... in every
kernel, and an odd last element is paired with zero. int8 activations become uint8 when a file is loaded.
uint8 by uint8 takes VPMADDWD instead, which is exact.
"""

import numpy as np

from vit_edge.arrays import Array, Float64, Int8, Int32, Int64, UInt8
from vit_edge.host.affine import Affine
from vit_edge.host.plan import FineRange, RowRange
from vit_edge.host.quantize.tally import Activation

LOWEST, LIMIT = -32768, 32767  # int16
CODE = 255  # the largest uint8 code
MARGIN = 1.0  # of the distance from the zero point: other images reach further than those of calibration
CACHED = 2**15  # numbers that are worked on at a time
DIRECTIONS = 32  # in which the outermost of many code pairs are looked for


def saturating_product(codes: UInt8, weight: Int8) -> Int32:
    """The product as a CPU computes it that adds pairs in int16.

    The exact product is corrected by what each pair loses; only columns in which a pair of weights can reach
    the limit at all are looked at.

    Args:
        codes: uint8 (rows, inner), zero point not taken off.
        weight: int8 (inner, columns).

    Returns:
        int32 (rows, columns), to which no zero point has been applied.
    """
    exact = codes.astype(np.float64) @ weight.astype(np.float64)  # integers below 2 ** 53
    for start in range(0, len(weight), 2):
        pair = weight[start : start + 2].astype(np.int32)
        possible = np.flatnonzero(_same_sign_sum(pair) * CODE > LIMIT)
        if possible.size:
            sums = codes[:, start : start + 2].astype(np.int32) @ pair[:, possible]
            exact[:, possible] += np.clip(sums, LOWEST, LIMIT) - sums
    return exact.astype(np.int32)


def pair_reach(weight: Int8, corners: Array) -> Float64:
    """The largest magnitude that a sum of two neighbouring products can have.

    Args:
        weight: int8 (inner, columns).
        corners: (pairs, corners, 2) code pairs of the first operand, between which all others lie; of an odd
            inner dimension the last pair's second code is of no account.

    Returns:
        float64 (columns,); a column below LIMIT + 1 cannot saturate.
    """
    wide = np.zeros((2 * len(corners), weight.shape[1]))
    wide[: len(weight)] = weight
    reach = np.zeros(weight.shape[1])
    for pair, ends in zip(wide.reshape(len(corners), 2, -1), corners, strict=True):
        np.maximum(reach, np.abs(ends @ pair).max(axis=0), out=reach)
    return reach


def box_corners(low: Array, high: Array) -> Int64:
    """(pairs, 4, 2) of first operands whose codes (inner,) lie anywhere between `low` and `high`."""
    even = len(low) + len(low) % 2
    first, second = np.stack([_padded(low, even), _padded(high, even)]).reshape(2, -1, 2).transpose(2, 1, 0)
    ends = [np.stack([first[:, i], second[:, j]], axis=1) for i in range(2) for j in range(2)]
    return np.stack(ends, axis=1)


def seen_corners(activation: Activation, reach: Affine | RowRange | FineRange) -> Array:
    """(pairs, DIRECTIONS, 2) around the codes that the sampled rows take, and a margin.

    Neighbours are looked at together: both at their ends at once are rarer than either, and a box around them
    would cost the weights a part of a bit. The sample holds the CLS token and the most extreme token of every
    image. Each code is moved away from the zero point by a margin, for other images reach further, and cut
    off where codes end: only channels that stay far from both ends count on staying there. Of a fine range it
    is the codes of the values: those of remainders lie near the zero point, and their weights are a twelfth.
    """
    codes, zero_point = _codes(activation.sample.astype(np.float64), reach)
    moved = np.clip(np.rint(zero_point + (codes - zero_point) * (1 + MARGIN)), 0, CODE)
    even = moved.shape[1] + moved.shape[1] % 2
    wide = np.pad(moved, ((0, 0), (0, even - moved.shape[1])))
    return outermost(wide.reshape(len(wide), -1, 2).transpose(1, 0, 2))


def outermost(points: Array) -> Array:
    """The corners (..., DIRECTIONS, 2) of a polygon around points (..., n, 2).

    Its sides touch the points from DIRECTIONS evenly spread directions, so it holds all of them. It reaches
    beyond a round cloud by half a percent, and beyond any points by tan(pi / DIRECTIONS) / 2 of their spread.
    """
    angles = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    x, y = np.cos(angles), np.sin(angles)
    side = _sides(points.reshape(-1, *points.shape[-2:]), x, y).reshape(*points.shape[:-2], -1)
    after, turn = np.roll(side, -1, axis=-1), np.sin(2 * np.pi / DIRECTIONS)
    corners = (side * np.roll(y, -1) - after * y) / turn, (after * x - side * np.roll(x, -1)) / turn
    return np.stack(corners, axis=-1)


def _sides(points: Array, x: Float64, y: Float64) -> Float64:
    """How far points (sets, n, 2) reach in each direction (x, y), half of which are opposite the others."""
    side, half = np.empty((len(points), len(x))), len(x) // 2
    at_once = max(1, CACHED // points.shape[1])
    for start in range(0, len(points), at_once):
        part = slice(start, start + at_once)
        first, second = (np.ascontiguousarray(points[part, :, i], np.float64) for i in range(2))
        for i in range(half):
            along = first * x[i]
            along += second * y[i]
            side[part, i], side[part, half + i] = along.max(axis=1), -along.min(axis=1)
    return side


def _codes(values: Array, reach: Affine | RowRange | FineRange) -> tuple[Array, int]:
    """Values (rows, channels) in steps of their codes, not rounded, and the zero point."""
    if isinstance(reach, FineRange):
        reach = reach.reach
    if isinstance(reach, Affine):
        return reach.steps(values), reach.zero_point
    magnitude = values if reach.one_sided else np.abs(values)
    largest = np.maximum(magnitude.max(axis=1, keepdims=True), reach.floor)
    return reach.unit.steps(values / largest), reach.unit.zero_point


def _same_sign_sum(pair: Int32) -> Int32:
    """(columns,) of the magnitude that the weights (1 or 2, columns) of one sign add up to."""
    total: Int32 = np.maximum(np.maximum(pair, 0).sum(axis=0), -np.minimum(pair, 0).sum(axis=0))
    return total


def _padded(codes: Array, size: int) -> Int64:
    return np.pad(codes.astype(np.int64), (0, size - len(codes)))
