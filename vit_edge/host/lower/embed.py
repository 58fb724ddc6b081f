"""Lowering of Embed: the patch embedding from float32 `pixel_values` or from uint8 `pixels`.

Both input forms share everything behind the flattened patches. For INT8, `pixel_values` are first turned back
into the pixels they were made of (value * std + mean, in steps of 1/255), so the integer input is exact.
"""

import dataclasses

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.affine import Affine
from vit_edge.host.lower.graph import GraphWriter
from vit_edge.host.lower.linear import weight_and_bias
from vit_edge.host.plan import EmbedPlan
from vit_edge.spec import InputForm

PIXELS = Affine(1.0 / 255.0)


@dataclasses.dataclass(frozen=True)
class Patches:
    """The geometry of an Embed."""

    rows: int
    columns: int
    height: int  # of one patch, pixels
    width: int
    channels: int
    prefix: int
    dim: int

    @property
    def count(self) -> int:
        """Patches per image."""
        return self.rows * self.columns

    def input_shape(self, form: InputForm) -> tuple[int, int, int]:
        """The image without its batch dimension."""
        height, width = self.rows * self.height, self.columns * self.width
        channels_first = form is InputForm.PIXEL_VALUES
        return (self.channels, height, width) if channels_first else (height, width, self.channels)


@dataclasses.dataclass(frozen=True)
class Normalisation:
    """value = (pixel / 255 - mean) / std per channel, float32 (channels,)."""

    mean: Array
    std: Array


def unnormalised(weight: Array, table: Array, patches: Patches, normal: Normalisation) -> tuple[Array, Array]:
    """Weight and table of the projection that takes pixel / 255 instead of the normalised value.

    Exact in real numbers: W ((p - mean) / std) = (W / std) p - (W / std) mean. Computed in float64.
    """
    per_row = weight.shape[0] // patches.channels  # a weight's rows run channel first
    std = np.repeat(normal.std.astype(np.float64), per_row)[:, None]
    mean = np.repeat(normal.mean.astype(np.float64), per_row)[:, None]
    scaled = weight.astype(np.float64) / std
    moved = table.astype(np.float64).copy()
    moved[patches.prefix :] -= (scaled * mean).sum(axis=0)
    return scaled.astype(np.float32), moved.astype(np.float32)


def channels_last(weight: Array, patches: Patches) -> Array:
    """The same weight with rows in the order (height, width, channel)."""
    shape = (patches.channels, patches.height, patches.width, weight.shape[1])
    return weight.reshape(shape).transpose(1, 2, 0, 3).reshape(weight.shape)


def normalised_pixels(w: GraphWriter, pixels: ir.Value, normal: Normalisation) -> ir.Value:
    """float32 (batch, channels, height, width) of uint8 `pixels`, for layers that cut no patches."""
    values = w.op("Cast", [pixels], "pixels.values", {"to": ir.DataType.FLOAT.value})
    std, mean = normal.std.astype(np.float64), normal.mean.astype(np.float64)
    factor = w.constant((PIXELS.scale / std).astype(np.float32), "pixels.factor")
    shift = w.constant((-mean / std).astype(np.float32), "pixels.shift")
    unit = w.op("Add", [w.op("Mul", [values, factor], "pixels.scaled"), shift], "pixels.normalised")
    return w.transpose(unit, (0, 3, 1, 2), "pixels.image")


def flat_patches(w: GraphWriter, image: ir.Value, patches: Patches, form: InputForm) -> ir.Value:
    """(batch * patches, height * width * channels): one row per patch, in the element order of the image."""
    sizes = {
        "r": patches.rows,
        "h": patches.height,
        "c": patches.columns,
        "w": patches.width,
        "k": patches.channels,
    }
    axes = "krhcw" if form is InputForm.PIXEL_VALUES else "rhcwk"
    wanted = "rckhw" if form is InputForm.PIXEL_VALUES else "rchwk"
    apart = w.reshape(image, (-1, *(sizes[axis] for axis in axes)), "embed.grid")
    ordered = w.transpose(apart, (0, *(1 + axes.index(axis) for axis in wanted)), "embed.patches")
    return w.reshape(ordered, (-1, patches.height * patches.width * patches.channels), "embed.flat")


def float_conv(w: GraphWriter, image: ir.Value, weight: Array, patches: Patches) -> ir.Value:
    """(batch, patches, dim) by a convolution, from `pixel_values`."""
    kernel = weight.T.reshape(patches.dim, patches.channels, patches.height, patches.width)
    size = [patches.height, patches.width]
    inputs = [image, w.constant(kernel, "embed.weight")]
    made = w.op("Conv", inputs, "embed.conv", {"kernel_shape": size, "strides": size})
    grid = w.reshape(made, (-1, patches.dim, patches.count), "embed.grid")
    return w.transpose(grid, (0, 2, 1), "embed.projected")


def float_pixels(w: GraphWriter, pixels: ir.Value, weight: Array, patches: Patches) -> ir.Value:
    """(batch, patches, dim) from uint8 `pixels`; `weight` takes pixel / 255."""
    flat = flat_patches(w, pixels, patches, InputForm.PIXELS)
    values = w.op("Cast", [flat], "embed.values", {"to": ir.DataType.FLOAT.value})
    scaled = channels_last(weight, patches) * np.float32(PIXELS.scale)
    made = w.op("Gemm", [values, w.constant(scaled, "embed.weight")], "embed.rows")
    return w.reshape(made, (-1, patches.count, patches.dim), "embed.projected")


def apart_from_mean(table: Array, patches: Patches) -> tuple[Array, Array]:
    """The mean over the patches (dim,), which any patch embedding may add, and the table without it."""
    mean = table[patches.prefix :].astype(np.float64).mean(axis=0)
    rest = table.astype(np.float64)
    rest[patches.prefix :] -= mean
    return mean.astype(np.float32), rest.astype(np.float32)


def int8_embed(
    w: GraphWriter, image: ir.Value, plan: EmbedPlan, patches: Patches, form: InputForm, normal: Normalisation
) -> tuple[ir.Value, Array]:
    """(batch, patches, dim) through one integer Gemm, and the table that is left to add.

    The row that all patches share is the Gemm's bias. A bias of zeros would do for onnxruntime; OpenVINO
    takes it away, moves the scales of the weight behind the Reshape that follows, and gets their shape wrong
    where the batch is dynamic (2026.4: "[ReshapeTransformation] ... CALLBACK HAS THROWN").
    """
    bias, table = apart_from_mean(plan.table, patches)
    weight, reach = plan.weight, PIXELS
    if form is InputForm.PIXEL_VALUES:
        shape = (1, patches.channels, 1, 1)
        std = w.constant(normal.std.astype(np.float32).reshape(shape), "embed.std")
        middle = 128 * PIXELS.scale if w.symmetric else 0.0  # int8 around zero holds pixels less 128
        bias = bias + np.float32(middle) * plan.weight_scale * weight.sum(0, np.int32)
        mean = w.constant((normal.mean.astype(np.float32) - np.float32(middle)).reshape(shape), "embed.mean")
        unit = w.op("Add", [w.op("Mul", [image, std], "embed.unscaled"), mean], "embed.unit")
        if w.signed:
            reach = Affine(PIXELS.scale, 0, np.int8) if w.symmetric else PIXELS.signed()
        image = w.quantized(unit, reach, "embed.pixels")
    else:
        weight = channels_last(weight, patches)
    flat = flat_patches(w, image, patches, form)
    restored = w.dequantized(flat, reach, "embed.pixels")
    constants = weight_and_bias(w, weight, plan.weight_scale, bias, reach.scale, "embed")
    made = w.op("Gemm", [restored, *constants], "embed.rows")
    return w.reshape(made, (-1, patches.count, patches.dim), "embed.projected"), table


def add_table(w: GraphWriter, projected: ir.Value, table: Array, patches: Patches) -> ir.Value:
    """(batch * tokens, dim): rows for the prefix in front, then the table added. Works for any batch."""
    tokens = projected
    if patches.prefix:
        pads = w.shared(np.asarray([0, patches.prefix, 0, 0, 0, 0], np.int64), "pads")
        tokens = w.op("Pad", [projected, pads], "embed.padded")
    placed = w.op("Add", [tokens, w.constant(table, "embed.table")], "embed.tokens")
    return w.reshape(placed, (-1, patches.dim), "embed")


def join_table(w: GraphWriter, projected: ir.Value, table: Array, patches: Patches) -> ir.Value:
    """The same for a batch of one, by Concat: compilers for NPUs fail on a Pad in the token stream."""
    own, prefix = table[None, patches.prefix :], table[None, : patches.prefix]
    tokens = w.op("Add", [projected, w.constant(own, "embed.table")], "embed.placed")
    if patches.prefix:
        tokens = w.op("Concat", [w.constant(prefix, "embed.prefix"), tokens], "embed.tokens", {"axis": 1})
    return w.reshape(tokens, (-1, patches.dim), "embed")
