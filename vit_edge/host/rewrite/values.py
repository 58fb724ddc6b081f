"""Reading constants and shapes of a graph, and making nodes whose shapes are known.

The rewriter's tape does not infer shapes, and later rules rely on them, so every node that a rule makes goes
through one of these functions.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.initializers import digest_of
from vit_edge.host.rewrite import composites

LinearParts = tuple[ir.Value, Array, Array | None]  # (x, weight (in, out), bias (out) or None)


def constant_of(value: ir.Value | None) -> Array | None:
    """The numpy array of a constant value, or None where the value is computed at run time."""
    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def scalar_of(value: ir.Value | None) -> float | None:
    """The single element of a constant of size one, or None."""
    array = constant_of(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def over_last(axes: ir.Value | None, rank: int) -> bool:
    """Whether constant axes are the last one of so many."""
    array = constant_of(axes)
    return array is not None and array.reshape(-1).tolist() in ([-1], [rank - 1])


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape where every dimension is known, else None."""
    if value is None or value.shape is None:
        return None
    known = tuple(size for size in value.shape if isinstance(size, int))
    return known if len(known) == len(value.shape) else None


def integers(node: ir.Node, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
    """An INTS attribute as a tuple."""
    attribute = node.attributes.get(name)
    return tuple(attribute.as_ints()) if attribute is not None else tuple(default)


def integer(node: ir.Node, name: str, default: int = 0) -> int:
    """An INT attribute."""
    attribute = node.attributes.get(name)
    return attribute.as_int() if attribute is not None else default


def number(node: ir.Node, name: str, default: float = 0.0) -> float:
    """A FLOAT attribute."""
    attribute = node.attributes.get(name)
    return attribute.as_float() if attribute is not None else default


def users(value: ir.Value) -> list[ir.Node]:
    """The nodes that read a value, each once."""
    return list(dict.fromkeys(use.node for use in value.uses()))


def only_user(value: ir.Value) -> ir.Node | None:
    """The one node that reads a value, or None where several do or the graph returns it."""
    nodes = users(value)
    return nodes[0] if len(nodes) == 1 and not value.is_graph_output() else None


def constant(op: Any, array: Array, kind: str) -> ir.Value:
    """An initializer; its name comes from its content, so equal constants are stored once."""
    contiguous = np.asarray(array, order="C")  # unlike ascontiguousarray, keeps a scalar a scalar
    value: ir.Value = op.initializer(ir.tensor(contiguous, name=f"{kind}_{digest_of(contiguous)}"))
    return value


def adds_table(node: ir.Node) -> bool:
    """Whether a node adds a constant with a row for each token to the tokens of an image."""
    shape = static_shape(node.outputs[0]) if composites.is_op(node, "Add") else None
    if shape is None or len(shape) != 2 or shape[0] < 2:
        return False
    table = next((array for value in node.inputs if (array := constant_of(value)) is not None), None)
    # The sum has the table's shape: scores of several heads that have a mask added are no tokens.
    return table is not None and table.shape == shape


def typed(value: ir.Value, shape: Sequence[int], dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
    """Give a freshly made value its shape and element type."""
    value.shape = ir.Shape(list(shape))
    value.dtype = dtype
    return value


def reshape(op: Any, x: ir.Value, shape: Sequence[int]) -> ir.Value:
    """Reshape `x` to `shape`, or `x` itself where that is its shape already."""
    if static_shape(x) == tuple(shape):
        return x
    target = constant(op, np.asarray(shape, np.int64), "shape")
    return typed(op.Reshape(x, target), shape, x.dtype or ir.DataType.FLOAT)


def transpose(op: Any, x: ir.Value, perm: Sequence[int]) -> ir.Value:
    """Transpose `x`, whose shape must be known."""
    dims = _known(x)
    return typed(op.Transpose(x, perm=list(perm)), [dims[p] for p in perm], x.dtype or ir.DataType.FLOAT)


def flatten(op: Any, x: ir.Value) -> ir.Value:
    """The rank-2 form `(rows, last dimension)` of a value with a known shape."""
    dims = _known(x)
    return reshape(op, x, (math.prod(dims[:-1]), dims[-1]))


def linear(op: Any, x: ir.Value, weight: Array, bias: Array | None) -> ir.Value:
    """A `Linear` composite of rank-2 `x` with float32 weight (in, out) and bias (out)."""
    inputs = [x, constant(op, weight.astype(np.float32), "weight")]
    if bias is not None:
        inputs.append(constant(op, bias.astype(np.float32), "bias"))
    made = op.Linear(*inputs, _domain=composites.DOMAIN, _version=1)
    return typed(made, (_known(x)[0], weight.shape[1]))


def attention(
    op: Any,
    q: ir.Value,
    k: ir.Value,
    v: ir.Value,
    heads: int,
    scale: float,
    bias: Array | None = None,
    windows: int = 1,
) -> ir.Value:
    """An `Attention` composite; the bias is (heads, m, n), or (windows, heads, m, n)."""
    inputs = [q, k, v] if bias is None else [q, k, v, constant(op, bias.astype(np.float32), "bias")]
    several = {"windows": windows} if windows > 1 else {}
    made = op.Attention(*inputs, heads=heads, scale=scale, **several, _domain=composites.DOMAIN, _version=1)
    return typed(made, (_known(q)[0], _known(v)[1]))


def attention_like(
    op: Any,
    node: ir.Node,
    operands: Sequence[ir.Value],
    *,
    scale: float | None = None,
    bias: Array | None = None,
) -> ir.Value:
    """The same `Attention` of other queries, keys and values; its scale and bias, where not given, stay."""
    kept = attention_bias(node) if bias is None else bias
    q, k, v = operands
    scaled = number(node, "scale") if scale is None else scale
    return attention(op, q, k, v, integer(node, "heads"), scaled, kept, integer(node, "windows", 1))


def attention_bias(node: ir.Node) -> Array | None:
    """The bias ((windows,) heads, m, n) of an `Attention` composite, where it has one."""
    return constant_of(node.inputs[3]) if len(node.inputs) > 3 else None


def rotary(op: Any, x: ir.Value, cos: Array, sin: Array, heads: int) -> ir.Value:
    """A `Rotary` composite with float32 tables (rows, width)."""
    tables = (constant(op, cos.astype(np.float32), "cos"), constant(op, sin.astype(np.float32), "sin"))
    made = op.Rotary(x, *tables, heads=heads, _domain=composites.DOMAIN, _version=1)
    return typed(made, _known(x))


def head_norm(op: Any, x: ir.Value, scale: Array, bias: Array, heads: int, epsilon: float) -> ir.Value:
    """A `HeadNorm` composite with float32 scale and bias (width,)."""
    parts = (constant(op, scale.astype(np.float32), "scale"), constant(op, bias.astype(np.float32), "bias"))
    made = op.HeadNorm(x, *parts, heads=heads, epsilon=epsilon, _domain=composites.DOMAIN, _version=1)
    return typed(made, _known(x))


def head_unit(op: Any, x: ir.Value, factor: Array) -> ir.Value:
    """A `HeadUnit` composite with a float32 factor of each head (heads,)."""
    table = constant(op, factor.astype(np.float32), "factor")
    made = op.HeadUnit(x, table, heads=factor.size, _domain=composites.DOMAIN, _version=1)
    return typed(made, _known(x))


def permute(op: Any, x: ir.Value, order: Array) -> ir.Value:
    """A `PermuteTokens` composite."""
    table = constant(op, order.astype(np.int64), "order")
    return typed(op.PermuteTokens(x, table, _domain=composites.DOMAIN, _version=1), _known(x))


def rms_norm(op: Any, x: ir.Value, scale: Array, epsilon: float) -> ir.Value:
    """An `RmsNorm` composite, of any rank, with a float32 scale (last dimension,)."""
    gamma = constant(op, scale.astype(np.float32), "scale")
    return typed(op.RmsNorm(x, gamma, epsilon=epsilon, _domain=composites.DOMAIN, _version=1), _known(x))


def swish(op: Any, x: ir.Value, alpha: float) -> ir.Value:
    """A `Swish` composite, of any rank."""
    return typed(op.Swish(x, alpha=alpha, _domain=composites.DOMAIN, _version=1), _known(x))


def again(
    op: Any, node: ir.Node, inputs: Sequence[ir.Value | None], shape: Sequence[int], *, without: str = ""
) -> ir.Value:
    """The same operator with the same attributes (but for one), of other inputs."""
    attributes = {key: value for key, value in node.attributes.items() if key != without}
    made = getattr(op, node.op_type)(*inputs, **attributes, _domain=node.domain, _version=node.version)
    return typed(made, shape)


def by_head(value: ir.Value | None) -> tuple[list[ir.Node], ir.Value | None]:
    """What treats each head of an operand of attention by itself, the last first, and what it is made of."""
    chain: list[ir.Node] = []
    while value is not None:
        node = value.producer()
        if node is None or not any(
            composites.is_composite(node, kind)
            for kind in (composites.ROTARY, composites.HEAD_NORM, composites.HEAD_UNIT)
        ):
            break
        chain.append(node)
        value = node.inputs[0]
    return chain, value


def by_head_again(op: Any, chain: Sequence[ir.Node], x: ir.Value) -> ir.Value:
    """The same treatment of another value of the same shape."""
    for node in reversed(chain):
        first, second = (constant_of(value) for value in (*node.inputs[1:], None)[:2])
        if first is not None and composites.is_composite(node, composites.HEAD_UNIT):
            x = head_unit(op, x, first)
            continue
        if first is None or second is None:
            raise ValueError(f"{node.name}: its tables are not constant")
        heads = integer(node, "heads")
        if composites.is_composite(node, composites.ROTARY):
            x = rotary(op, x, first, second, heads)
        else:
            x = head_norm(op, x, first, second, heads, number(node, "epsilon"))
    return x


def embed(
    op: Any, image: ir.Value, weight: Array, table: Array, patch: tuple[int, int], prefix: int
) -> ir.Value:
    """An `Embed` composite."""
    made = op.Embed(
        image,
        constant(op, weight.astype(np.float32), "weight"),
        constant(op, table.astype(np.float32), "table"),
        patch=list(patch),
        prefix=prefix,
        _domain=composites.DOMAIN,
        _version=1,
    )
    return typed(made, table.shape)


def select(op: Any, x: ir.Value, start: int, stop: int) -> ir.Value:
    """A `SelectTokens` composite."""
    made = op.SelectTokens(x, start=start, stop=stop, _domain=composites.DOMAIN, _version=1)
    return typed(made, (stop - start, _known(x)[1]))


def _known(x: ir.Value) -> tuple[int, ...]:
    """The shape of a value on which a rule was accepted, which made sure that it is static."""
    dims = static_shape(x)
    if dims is None:
        raise ValueError(f"{x.name} has no static shape")
    return dims


def linear_behind(value: ir.Value | None) -> ir.Node | None:
    """The Linear that makes `value`, directly or through one Reshape that keeps the columns.

    None where anything else reads the value or the Linear's output, so that a caller may change its weights.
    """
    if value is None or only_user(value) is None:
        return None
    node = value.producer()
    if composites.is_op(node, "Reshape") and node is not None:
        inner, outer = static_shape(node.inputs[0]), static_shape(value)
        if inner is None or outer is None or inner[-1] != outer[-1]:
            return None
        if node.inputs[0] is None or only_user(node.inputs[0]) is None:
            return None
        node = node.inputs[0].producer()
    return node if composites.is_composite(node, composites.LINEAR) else None


def linear_parts(node: ir.Node) -> LinearParts:
    """(x, weight (in, out), bias (out) or None) of a Linear composite."""
    weight = constant_of(node.inputs[1])
    if node.inputs[0] is None or weight is None:
        raise ValueError(f"{node.name}: a Linear needs an input and a constant weight")
    return node.inputs[0], weight, constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
