"""Affine quantization of a whole tensor, as ONNX QuantizeLinear has it: real = scale * (code - zero_point).

Scale, zero point and rounding are computed here and nowhere else. Weights, which have a scale per output
column, are rounded in `quantize.weights`.
"""

import dataclasses
from typing import Any

import numpy as np

from vit_edge.arrays import Array

Integer = type[np.integer[Any]]

SMALLEST = 1e-12  # of a scale, where all values are zero


@dataclasses.dataclass(frozen=True)
class Affine:
    """One scale and one zero point, and the type of the codes."""

    scale: float
    zero_point: int = 0
    dtype: Integer = np.uint8

    @classmethod
    def of(cls, low: float, high: float, dtype: Integer = np.uint8, *, as_stored: bool = True) -> "Affine":
        """The range that holds [low, high] and zero, zero being one of its steps.

        Args:
            low: smallest real value.
            high: largest real value.
            dtype: of the codes; all of them are used.
            as_stored: the zero point fits the scale as files store it, in float32, and not the exact one; in
                16 bits that may be another step.
        """
        low, high = min(low, 0.0), max(high, 0.0)
        first, last = limits(dtype)
        exact = max((high - low) / (last - first), SMALLEST)
        scale = float(np.float32(exact))
        zero = round(first - low / (scale if as_stored else exact))
        return cls(scale, min(max(zero, first), last), dtype)

    @classmethod
    def symmetric(cls, largest: float) -> "Affine":
        """The int8 range around zero, from -127 to 127, that holds magnitudes up to `largest`."""
        return cls(float(np.float32(max(largest, SMALLEST) / 127.0)), 0, np.int8)

    def steps(self, values: Array) -> Array:
        """Real values in steps of the codes, neither rounded nor cut off."""
        made: Array = values / self.scale + self.zero_point
        return made

    def codes(self, values: Array) -> Array:
        """The codes of real values, as whole numbers of the values' own type."""
        made: Array = np.clip(np.rint(values / self.scale) + self.zero_point, *limits(self.dtype))
        return made

    def values(self, codes: Array) -> Array:
        """The real values of codes."""
        made: Array = (codes - self.zero_point) * self.scale
        return made

    def rounded(self, values: Array) -> Array:
        """Real values after the way to codes and back."""
        return self.values(self.codes(values))

    def signed(self) -> "Affine":
        """The same steps of uint8 codes as int8: numbered 128 lower."""
        return Affine(self.scale, self.zero_point - 128, np.int8)

    def centred(self) -> "Affine":
        """The smallest int8 range around zero that holds a uint8 range."""
        return Affine(self.scale * max(self.zero_point, 255 - self.zero_point) / 127, 0, np.int8)


def limits(dtype: Integer) -> tuple[int, int]:
    """The smallest and the largest code."""
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)
