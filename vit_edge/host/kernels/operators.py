"""The operators of the package `vit-edge-kernels`, and how a rule makes one.

Codes are uint8 with one scale and zero point; weights are int8 with a scale per column. An operator whose
name ends in Codes gives codes: of one range (`scale`, `zero_point`), or, with `by_row`, of a range for each
row, which is divided by max(floor, its largest magnitude, or its largest value where `one_sided`); that
divisor is the second output, (rows, 1).

    Linear(x codes (rows, in), row_scale (rows, 1)?, residual (rows, out)?, weight int8 (in, out),
           weight_scale (out), start int32 (out), bias (out)?) -> (rows, out) float32
    LinearCodes(…, scale (out)?, zero_point uint8 (out)?) -> (rows, out) codes, (rows, 1)?
        activation((sum + start) * input_scale * weight_scale * row_scale + bias) + residual, the sum being
        that of (x - input_zero_point) * weight. Codes `by_column` have the scales that are given.
    Attention(q, k, v codes; heads, width, queries, keys, three offsets) -> (rows, heads * width) float32
    AttentionCodes(…) -> the same in codes
        softmax(q_h @ k_h.T) @ v_h for each head: columns from an operand's offset on, heads side by side,
        each image `queries` or `keys` rows; keys and values have the zero point 128. Weights are coded as
        probabilities with `probability_scale`, or, where that is 0, as exp(score - row maximum) and divided
        by their sum afterwards.
    NormCodes(x float32 (…, D), scale (D), bias (D); epsilon) -> codes
    RowCodes(x float32 (…, D)) -> codes, (…, 1)
"""

import dataclasses
import enum
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.values import constant, only_user, typed
from vit_edge.spec import KERNELS_DOMAIN

LINEAR, ATTENTION, NORM, ROW = "Linear", "Attention", "Norm", "Row"
CODES = "Codes"
BIAS = 6  # its place among the inputs of a Linear
Attributes = dict[str, int | float]


class Activation(enum.IntEnum):
    """What a Linear does to its sums."""

    NONE = 0
    GELU = 1
    GELU_TANH = 2
    SWISH = 3
    RELU = 4


@dataclasses.dataclass(frozen=True)
class Range:
    """How a result is coded."""

    scale: float
    zero_point: int
    by_row: bool = False
    floor: float = 1.0
    one_sided: bool = False

    @property
    def attributes(self) -> Attributes:
        """As the operators take it."""
        row: Attributes = {"by_row": int(self.by_row), "floor": self.floor, "one_sided": int(self.one_sided)}
        return {"scale": self.scale, "zero_point": self.zero_point} | row


def made(op: Any, name: str, inputs: Sequence[ir.Value | None], attributes: Attributes, outputs: int) -> Any:
    """One operator of ours; a value, or several."""
    return getattr(op, name)(*inputs, **attributes, _domain=KERNELS_DOMAIN, _version=1, _outputs=outputs)


def numbers(node: ir.Node) -> Attributes:
    """All attributes of a node of ours."""
    return {key: attribute.value for key, attribute in node.attributes.items()}


def again(op: Any, node: ir.Node, inputs: Sequence[ir.Value | None], **changed: int | float) -> ir.Value:
    """A Linear like a node's, of other inputs or with other attributes."""
    value: ir.Value = made(op, LINEAR, inputs, numbers(node) | changed, 1)
    return typed(value, list(shape_of(node.outputs[0])))


def coded(
    op: Any,
    node: ir.Node,
    kind: str,
    attributes: Attributes,
    reach: Range,
    inputs: Sequence[ir.Value | None] | None = None,
) -> list[ir.Value]:
    """What a node gives, in codes, and, where the range is one by row, the divisors of its rows."""
    outputs, given = 2 if reach.by_row else 1, node.inputs if inputs is None else inputs
    values = made(op, kind + CODES, given, attributes | reach.attributes, outputs)
    shape = list(shape_of(node.outputs[0]))
    if not reach.by_row:
        return [typed(values, shape, ir.DataType.UINT8)]
    codes, rows = values
    return [typed(codes, shape, ir.DataType.UINT8), typed(rows, [*shape[:-1], 1])]


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """The shape for one image; unknown sizes are -1."""
    sizes = () if value.shape is None else tuple(value.shape)
    return tuple(size if isinstance(size, int) else -1 for size in sizes)


def sole(value: ir.Value | None, kind: str) -> ir.Node | None:
    """The node of ours that makes a value which one other node alone reads."""
    if value is None or not is_op(value, kind, KERNELS_DOMAIN) or only_user(value) is None:
        return None
    return value.producer()


def weight_inputs(op: Any, weight: Array, scale: Array, start: Array, bias: Array | None) -> list[ir.Value]:
    """The constants of a Linear."""
    given = [(weight, "weight"), (scale, "weight_scale"), (start, "start")]
    return [constant(op, array, kind) for array, kind in given] + (
        [] if bias is None else [constant(op, bias, "bias")]
    )
