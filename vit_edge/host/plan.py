"""What quantization decided, layer by layer: numbers only, ready to be written into a graph.

Layers are called by their canonical names (`blocks.3.fc2`). A layer that no plan names stays float.
Quantization is affine (`affine.Affine`); ranges of activations are given for uint8.
"""

import dataclasses
from collections.abc import Mapping
from typing import Self

import numpy as np

from vit_edge.arrays import Float32, Int8
from vit_edge.host.affine import Affine

EXPONENTIALS = Affine(1.0 / 255.0)  # of exp(score - row maximum), which is 0 to 1


@dataclasses.dataclass(frozen=True)
class RowRange:
    """One scale per row (token), measured at run time, and one zero point for all rows.

    A row is divided by its reach r, so that it lies in [-low, 1]: r is the largest of |x|, or of x where
    `one_sided`, and at least `floor`. Behind GELU, whose values never fall below -0.17, a floor of 0.68 makes
    low = 0.25, and most of the 256 steps serve the positive side. The defaults need no calibration.
    """

    low: float = 1.0
    one_sided: bool = False
    floor: float = 1e-12  # keeps an all-zero row zero instead of 0 / 0

    @property
    def unit(self) -> Affine:
        """Of a row that was divided by its reach."""
        step = (1.0 + self.low) / 255.0
        return Affine(step, round(self.low / step))


@dataclasses.dataclass(frozen=True)
class FineRange:
    """One range, and codes twice: of the values, and of what these leave over, in steps `parts` times finer.

    The layer's weights stand twice, too, the second time divided by `parts` and rounded, so that one product
    over twice as many columns adds up both. A remainder is at most half a step, hence half of `parts` codes
    on either side of the zero point. Finer than that, the rounding of the second weights would add more than
    the finer steps save: with weights of a few dozen codes both are equal at about 12.
    """

    reach: Affine  # its zero point lies at least `parts` codes from both ends
    parts: int = 12

    def remainder(self, reach: Affine) -> Affine:
        """Of the remainders, where the values have this range: `reach` in the type of a file."""
        return dataclasses.replace(reach, scale=float(np.float32(reach.scale / self.parts)))

    def second(self, weight: Int8) -> Int8:
        """What remainders are multiplied with, of the weight (in, out)."""
        return np.rint(weight / self.parts).astype(np.int8)


@dataclasses.dataclass(frozen=True)
class LinearPlan:
    """An INT8 linear layer."""

    activation: Affine | RowRange | FineRange
    weight: Int8  # (in, out), symmetric
    weight_scale: Float32  # (out,)
    bias: Float32 | None  # (out,)


@dataclasses.dataclass(frozen=True)
class ConvPlan:
    """An INT8 convolution outside the patch embedding."""

    activation: Affine
    result: Affine  # behind the Relu or Clip that alone reads it, where there is one
    weight: Int8  # (out, in / group, height, width), symmetric
    weight_scale: Float32  # (out,)
    bias: Float32  # (out,)


@dataclasses.dataclass(frozen=True)
class EmbedPlan:
    """An INT8 patch embedding: its input is exact, being the uint8 pixels themselves."""

    weight: Int8  # (channels * patch * patch, dim), symmetric, of the projection that takes pixel / 255
    weight_scale: Float32  # (dim,)
    table: Float32  # (tokens, dim), of the projection that takes pixel / 255


@dataclasses.dataclass(frozen=True)
class AttentionPlan:
    """INT8 products of queries with keys and of probabilities with values.

    Keys and values are signed and symmetric: a signed second operand is twice as fast. Probabilities either
    have one range for all (`probability_scale`), or one per row (None): they are then quantized before they
    are normalised, as exp(score - row maximum), which reaches 1 in every row.
    """

    queries: Affine
    key_scale: float
    value_scale: float
    probability_scale: float | None = None


@dataclasses.dataclass(frozen=True)
class QuantPlan:
    """Everything that is not float."""

    linears: Mapping[str, LinearPlan] = dataclasses.field(default_factory=dict)
    attentions: Mapping[str, AttentionPlan] = dataclasses.field(default_factory=dict)
    embed: EmbedPlan | None = None
    convs: Mapping[str, ConvPlan] = dataclasses.field(default_factory=dict)
    tanh_gelu: bool = False  # every exact GELU in its tanh form, which is within 5e-4 of it and faster


@dataclasses.dataclass(frozen=True)
class Need:
    """What a layer loses where its products read activations of 8 bits."""

    layer: str
    macs: float
    """Its share of the model's multiply-adds."""
    noise: float
    """Noise power over signal power of the logits, with this layer alone in 8 bits."""


@dataclasses.dataclass(frozen=True)
class FullIntegerPlan:
    """What it takes to compute every operator in integers, for devices without floating point."""

    linears: Mapping[str, LinearPlan]
    """Every linear layer; its activation range is that of a narrow one."""
    attentions: Mapping[str, AttentionPlan]
    """Every attention, of which those of narrow ones are used."""
    embed: EmbedPlan
    ranges: Mapping[str, tuple[float, float]]
    """Of every float tensor of the graph otherwise float, by name."""
    columns: Mapping[str, tuple[Float32, Float32]]
    """The smallest and the largest value of each column of a linear layer's result, (out,)."""
    needs: tuple[Need, ...] = ()
    """Of these layers, that which loses most by 8 bits for its multiply-adds first."""
    narrow: frozenset[str] = frozenset()
    """Linear layers and attentions whose products read 8 bits, in a file whose activations have 16."""

    def with_wide(self, share: float) -> Self:
        """The same with 16 bits for what needs them most, up to a share of the multiply-adds.

        What is not among the needs, as the patch embedding, reads 16 bits in any case and counts.
        """
        left, narrow = share - (1.0 - sum(need.macs for need in self.needs)), set()
        for need in self.needs:
            if need.macs <= left + 1e-9:  # shares of all add up to one in floating point
                left -= need.macs
            else:
                narrow.add(need.layer)
        return dataclasses.replace(self, narrow=frozenset(narrow))


FLOAT = QuantPlan()
