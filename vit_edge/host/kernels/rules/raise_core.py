"""Attention in INT8 becomes one Attention: both products and Softmax between, behind codes of its operands.

Both spellings of `lower.attention`: Softmax whose probabilities have one range, and exp(score - row maximum)
in steps of 1/255 with the division by the row sum at the end. What lies between a split into heads and the
codes (rotation, normalization of heads), or is added to the scores, leaves the attention to onnxruntime.

What queries, keys and values are columns of is quantized before it is split, with the scale and zero point of
each column; signed codes are stored 128 higher. They are the same codes.
"""

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from vit_edge.host.kernels.operands import Operand, operand
from vit_edge.host.kernels.operators import ATTENTION, made, shape_of
from vit_edge.host.kernels.read import Codes, codes_behind
from vit_edge.host.plan import EXPONENTIALS
from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.rule import Declined, NodeRule
from vit_edge.host.rewrite.values import constant, integer, integers, scalar_of, static_shape, typed

WIDEST = 512  # columns of a head that the kernels take
SIGN = 128  # how much higher signed codes are stored


class Core(NamedTuple):
    """The operands, how they are coded, and the range of probabilities, 0 for exponentials."""

    q: Operand
    k: Operand
    v: Operand
    codes: tuple[Codes, Codes, Codes]
    probability_scale: float

    @property
    def operands(self) -> tuple[Operand, Operand, Operand]:
        """Queries, keys, values."""
        return self.q, self.k, self.v

    @property
    def matrices(self) -> tuple[ir.Value, ...]:
        """What they are columns of, each once."""
        return tuple(dict.fromkeys(each.matrix for each in self.operands))

    @property
    def filled(self) -> bool:
        """Whether every column is one of an operand."""
        taken = dict.fromkeys(self.matrices, 0)
        for each in self.operands:
            taken[each.matrix] += each.heads * each.width
        return all(shape_of(matrix)[1] == columns for matrix, columns in taken.items())


class RaiseCore(NodeRule[Core]):
    """Reshape(Transpose(Q(softmax(Q(q) Q(k)^T)) Q(v))) -> Attention(q, k, v)."""

    ROOTS = ("Reshape",)
    FIRES = """<ir_version: 9, opset_import: ["": 20]>
        g (float[5,96] x) => (float[5,32] y)
        <float s = {0.02}, uint8 z = {128}, int8 i = {0}, float ps = {0.0039215689}, uint8 pz = {0},
         int64[4] apart = {-1, 5, 6, 16}, int64[3] sizes = {2, 2, 2}, int64[2] flat = {-1, 32},
         float[1,5,6,16] r, float[1,6,5,16] t, float[1,2,5,16] q, float[1,2,5,16] k, float[1,2,5,16] v,
         uint8[1,2,5,16] qq, float[1,2,5,16] qd, int8[1,2,5,16] kq, int8[1,2,16,5] kt, float[1,2,16,5] kd,
         int8[1,2,5,16] vq, float[1,2,5,16] vd, float[1,2,5,5] c, float[1,2,5,5] p, uint8[1,2,5,5] pq,
         float[1,2,5,5] pd, float[1,2,5,16] m, float[1,5,2,16] b> {
            r = Reshape(x, apart)
            t = Transpose<perm=[0, 2, 1, 3]>(r)
            q, k, v = Split<axis=1>(t, sizes)
            qq = QuantizeLinear(q, s, z)
            qd = DequantizeLinear(qq, s, z)
            kq = QuantizeLinear(k, s, i)
            kt = Transpose<perm=[0, 1, 3, 2]>(kq)
            kd = DequantizeLinear(kt, s, i)
            vq = QuantizeLinear(v, s, i)
            vd = DequantizeLinear(vq, s, i)
            c = MatMul(qd, kd)
            p = Softmax<axis=-1>(c)
            pq = QuantizeLinear(p, ps, pz)
            pd = DequantizeLinear(pq, ps, pz)
            m = MatMul(pd, vd)
            b = Transpose<perm=[0, 2, 1, 3]>(m)
            y = Reshape(b, flat)
        }"""
    HOLDS = """<ir_version: 9, opset_import: ["": 20]>
        g (float[5,96] x) => (float[5,32] y)
        <int64[4] apart = {-1, 5, 6, 16}, int64[3] sizes = {2, 2, 2}, int64[2] flat = {-1, 32},
         float[1,5,6,16] r, float[1,6,5,16] t, float[1,2,5,16] q, float[1,2,5,16] k, float[1,2,5,16] v,
         float[1,2,16,5] kt, float[1,2,5,5] c, float[1,2,5,5] p, float[1,2,5,16] m, float[1,5,2,16] b> {
            r = Reshape(x, apart)
            t = Transpose<perm=[0, 2, 1, 3]>(r)
            q, k, v = Split<axis=1>(t, sizes)
            kt = Transpose<perm=[0, 1, 3, 2]>(k)
            c = MatMul(q, kt)
            p = Softmax<axis=-1>(c)
            m = MatMul(p, v)
            b = Transpose<perm=[0, 2, 1, 3]>(m)
            y = Reshape(b, flat)
        }"""

    def find(self, node: ir.Node) -> Core | Declined:
        """The attention whose heads this Reshape joins."""
        mixed = _before_join(node)
        if mixed is None:
            return Declined("a Reshape that joins no heads")
        product, weights = _weights(mixed)
        if product is None or weights is None:
            return Declined("heads that are joined behind no product with integer weights")
        scores, probability_scale = weights
        v, reach = codes_behind(product.inputs[1]), codes_behind(scores.inputs[0])
        keys = codes_behind(scores.inputs[1])
        turned = None if keys is None else keys.value.producer()
        if v is None or reach is None or keys is None or turned is None or not is_op(turned, "Transpose"):
            return Declined("an attention whose products are not both of codes")
        if integers(turned, "perm") != (0, 1, 3, 2) or turned.inputs[0] is None:
            return Declined("an attention whose keys are turned otherwise")
        k = keys._replace(value=turned.inputs[0])
        if reach.signed or not (k.signed and v.signed) or k.zero_point or v.zero_point:
            return Declined("an attention of other types than uint8 queries and centred int8 keys and values")
        found = [operand(codes.real) for codes in (reach, k, v)]
        return _together(node, found, (reach, k, v), probability_scale)

    def replace(self, op: Any, node: ir.Node, found: Core) -> ir.Value:
        """The codes of each matrix, and the one operator."""
        queries, keys, values = found.codes
        attributes = {
            "heads": found.q.heads,
            "width": found.q.width,
            "queries": found.q.rows,
            "keys": found.k.rows,
            "query_offset": found.q.offset,
            "key_offset": found.k.offset,
            "value_offset": found.v.offset,
            "query_scale": queries.scale,
            "query_zero_point": queries.zero_point,
            "key_scale": keys.scale,
            "value_scale": values.scale,
            "probability_scale": found.probability_scale,
        }
        coded = {matrix: _coded(op, matrix, found) for matrix in found.matrices}
        inputs = [coded[each.matrix] for each in found.operands]
        value: ir.Value = made(op, ATTENTION, inputs, attributes, 1)
        return typed(value, list(shape_of(node.outputs[0])))


def _coded(op: Any, matrix: ir.Value, found: Core) -> ir.Value:
    """A matrix of operands, each of them with its own range."""
    columns = shape_of(matrix)[1]
    scale, zero = np.zeros(columns, np.float32), np.zeros(columns, np.uint8)
    for part, codes in zip(found.operands, found.codes, strict=True):
        if part.matrix is matrix:
            place = slice(part.offset, part.offset + part.heads * part.width)
            scale[place], zero[place] = codes.scale, codes.zero_point + (SIGN if codes.signed else 0)
    reach = constant(op, scale, "scale"), constant(op, zero, "zero_point")
    return typed(op.QuantizeLinear(matrix, *reach, axis=1), list(shape_of(matrix)), ir.DataType.UINT8)


def _together(
    node: ir.Node, found: list[Operand | None], codes: tuple[Codes, Codes, Codes], probability_scale: float
) -> Core | Declined:
    q, k, v = found
    if q is None or k is None or v is None:
        return Declined("an attention with something between its heads and their codes")
    if len({each.heads for each in (q, k, v)}) != 1 or len({each.width for each in (q, k, v)}) != 1:
        return Declined("an attention whose operands have other heads than one another")
    if q.width > WIDEST or k.rows != v.rows:
        return Declined(f"an attention with heads of {q.width} columns")
    if static_shape(node.outputs[0]) != (q.rows, q.heads * q.width):
        return Declined("an attention over several windows of an image")
    core = Core(q, k, v, codes, probability_scale)
    return core if core.filled else Declined("an attention whose operands leave columns between them")


def _before_join(node: ir.Node) -> ir.Value | None:
    """(batch, heads, rows, width) that a Reshape to (batch * rows, heads * width) joins."""
    value, shape = node.inputs[0], static_shape(node.outputs[0])
    if value is None or shape is None or len(shape) != 2:
        return None
    turned = value.producer()
    if is_op(turned, "Transpose") and turned is not None and integers(turned, "perm") == (0, 2, 1, 3):
        return turned.inputs[0]
    inner = static_shape(value)
    return value if inner is not None and len(inner) == 4 and inner[2] == 1 else None


def _weights(mixed: ir.Value) -> tuple[ir.Node | None, tuple[ir.Node, float] | None]:
    """The product of weights and values; that of queries and keys, and the range of probabilities."""
    quotient = mixed.producer() if is_op(mixed, "Div") else None
    value = mixed if quotient is None else quotient.inputs[0]
    product = None if value is None or not is_op(value, "MatMul") else value.producer()
    codes = None if product is None else codes_behind(product.inputs[0])
    weights = None if codes is None or codes.signed or codes.zero_point else codes.real
    if product is None or codes is None or weights is None:
        return None, None
    if quotient is None:
        scores = _softmax(weights)
        return product, None if scores is None else (scores, codes.scale)
    scores = _exponentials(weights, quotient.inputs[1]) if _near(codes.scale, EXPONENTIALS.scale) else None
    return product, None if scores is None else (scores, 0.0)


def _near(first: float, second: float) -> bool:
    return abs(first - second) <= 1e-6 * second


def _softmax(weights: ir.Value) -> ir.Node | None:
    """The product of which the probabilities are the Softmax over the last axis."""
    node = weights.producer() if is_op(weights, "Softmax") else None
    if node is None or integer(node, "axis", -1) not in (-1, 3):
        return None
    return _made_by("MatMul", node.inputs[0])


def _exponentials(weights: ir.Value, total: ir.Value | None) -> ir.Node | None:
    """The product c where the weights are exp(c - max of each row), and `total` is their sum."""
    node = weights.producer() if is_op(weights, "Exp") else None
    shifted = (
        None
        if node is None or node.inputs[0] is None or not is_op(node.inputs[0], "Sub")
        else node.inputs[0].producer()
    )
    summed = None if total is None or not is_op(total, "ReduceSum") else total.producer()
    if (
        shifted is None
        or summed is None
        or summed.inputs[0] is not weights
        or scalar_of(summed.inputs[1]) != -1
    ):
        return None
    scores, most = shifted.inputs[:2]
    largest = _made_by("ReduceMax", most)
    if largest is None or largest.inputs[0] is not scores or scalar_of(largest.inputs[1]) != -1:
        return None
    return _made_by("MatMul", scores)


def _made_by(operator: str, value: ir.Value | None) -> ir.Node | None:
    return value.producer() if value is not None and is_op(value, operator) else None
