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
import numpy.typing as npt

from vit_edge.host.lower.graph import Array
from vit_edge.host.plan import Int8, RowRange, StaticRange
from vit_edge.host.quantize.observe import Activation

Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]

LOWEST, LIMIT = -32768, 32767  # int16
CODE = 255  # the largest uint8 code
MARGIN = 0.25  # of a channel's range, on either side: other images reach further than those of calibration


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


def pair_reach(weight: Int8, low: Array, high: Array) -> Array:
    """The largest magnitude that a sum of two neighbouring products can have.

    Args:
        weight: int8 (inner, columns).
        low: (inner,) smallest code of each element of the first operand.
        high: (inner,) largest code.

    Returns:
        int64 (columns,); a column with no more than LIMIT cannot saturate.
    """
    even = len(weight) + len(weight) % 2
    wide = np.zeros((even, weight.shape[1]), np.int64)
    wide[: len(weight)] = weight
    at_low, at_high = (_padded(codes, even)[:, None] * wide for codes in (low, high))
    top, bottom = np.maximum(at_low, at_high), np.minimum(at_low, at_high)
    pairs = (even // 2, 2, weight.shape[1])
    reach: Array = np.maximum(top.reshape(pairs).sum(axis=1), -bottom.reshape(pairs).sum(axis=1)).max(axis=0)
    return reach


def code_box(activation: Activation, reach: StaticRange | RowRange) -> tuple[Array, Array]:
    """The smallest and largest uint8 code of each channel: (channels,) each.

    With one static range the channels keep their sizes, and most stay far from the ends of the codes; the box
    is what calibration saw and a margin. A range per row stretches every row over all codes.
    """
    if isinstance(reach, RowRange):
        return np.zeros(len(activation.low), np.int64), np.full(len(activation.low), CODE, np.int64)
    room = MARGIN * (activation.high - activation.low)
    low = np.floor((activation.low - room) / reach.scale) + reach.zero_point
    high = np.ceil((activation.high + room) / reach.scale) + reach.zero_point
    return np.clip(low, 0, CODE).astype(np.int64), np.clip(high, 0, CODE).astype(np.int64)


def _same_sign_sum(pair: Int32) -> Int32:
    """(columns,) of the magnitude that the weights (1 or 2, columns) of one sign add up to."""
    total: Int32 = np.maximum(np.maximum(pair, 0).sum(axis=0), -np.minimum(pair, 0).sum(axis=0))
    return total


def _padded(codes: Array, size: int) -> Array:
    return np.pad(codes.astype(np.int64), (0, size - len(codes)))
