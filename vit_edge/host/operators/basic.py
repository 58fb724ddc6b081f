"""The operators that encoders are made of: products, normalisation, codes and moves of numbers."""

import functools
from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor

from vit_edge.host.operators.shared import Given, Operator, each, elsewhere, needed, whole
from vit_edge.host.rewrite.values import integer, integers, number

_TYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.INT8: torch.int8,
    ir.DataType.BOOL: torch.bool,
}


def _gemm(node: ir.Node, given: Given) -> Tensor:
    a, b, rest = needed(given, 0), needed(given, 1), given[2:]
    a = a.T if integer(node, "transA") else a
    b = b.T if integer(node, "transB") else b
    product: Tensor = a @ b
    if (alpha := number(node, "alpha", 1.0)) != 1.0:
        product = product * alpha
    if not rest or rest[0] is None:
        return product
    return product + rest[0] * number(node, "beta", 1.0)


def _quantize(node: ir.Node, given: Given) -> Tensor:
    x, scale, zero = (needed(given, i) for i in range(3))  # lowering always writes the zero point
    info = torch.iinfo(zero.dtype)
    codes = torch.round(x / _along(scale, x, node)) + _along(zero.to(torch.float32), x, node)
    return codes.clamp(info.min, info.max)


def _dequantize(node: ir.Node, given: Given) -> Tensor:
    codes, scale, zero = (needed(given, i) for i in range(3))
    return (codes.to(torch.float32) - _along(zero.to(torch.float32), codes, node)) * _along(
        scale, codes, node
    )


def _along(values: Tensor, x: Tensor, node: ir.Node) -> Tensor:
    """One value for all of `x`, or one for each place along the operator's axis."""
    if values.ndim == 0:
        return values
    shape = [1] * x.ndim
    shape[integer(node, "axis", 1)] = -1
    return values.reshape(shape)


def _reshape(node: ir.Node, given: Given) -> Tensor:
    x, sizes = needed(given, 0), whole(given[1])
    if not integer(node, "allowzero"):
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


def _transpose(node: ir.Node, given: Given) -> Tensor:
    x = needed(given, 0)
    return x.permute(integers(node, "perm", tuple(reversed(range(x.ndim)))))


def _split(node: ir.Node, given: Given) -> Sequence[Tensor]:
    x, axis = needed(given, 0), integer(node, "axis")
    if len(given) > 1 and given[1] is not None:
        return torch.split(x, whole(given[1]), axis)
    return torch.split(x, -(-x.shape[axis] // len(node.outputs)), axis)


def _slice(_: ir.Node, given: Given) -> Tensor:
    x, ends, rest = needed(given, 0), given[2], given[3:]
    first = whole(given[1])
    axes = whole(rest[0]) if rest and rest[0] is not None else list(range(len(first)))
    steps = whole(rest[1]) if len(rest) > 1 and rest[1] is not None else [1] * len(first)
    for start, end, axis, step in zip(first, whole(ends), axes, steps, strict=True):
        places = range(x.shape[axis])[start:end:step]
        x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64))
    return x


def _gather(node: ir.Node, given: Given) -> Tensor:
    x, places = needed(given, 0), needed(given, 1)
    axis = integer(node, "axis")
    axis += x.ndim if axis < 0 else 0
    wrapped = torch.where(places < 0, places + x.shape[axis], places).to(torch.int64)
    taken = x.index_select(axis, wrapped.reshape(-1))
    return taken.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


def _normalised(node: ir.Node, given: Given) -> Tensor:
    x, scale, rest = needed(given, 0), given[1], given[2:]
    if integer(node, "axis", -1) not in (-1, x.ndim - 1):
        return elsewhere(node, given)[0]
    return F.layer_norm(x, x.shape[-1:], scale, rest[0] if rest else None, number(node, "epsilon", 1e-5))


def _softmax(node: ir.Node, given: Given) -> Tensor:
    return torch.softmax(needed(given, 0), integer(node, "axis", -1))


def _gelu(node: ir.Node, given: Given) -> Tensor:
    kind = node.attributes.get("approximate")
    return F.gelu(needed(given, 0), approximate="none" if kind is None else kind.as_string())


def _reduced(function: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    """A reduction over the axes of the second input, or over all of them."""

    def operator(node: ir.Node, given: Given) -> Tensor:
        x = needed(given, 0)
        axes = whole(given[1]) if len(given) > 1 and given[1] is not None else []
        if not axes and integer(node, "noop_with_empty_axes"):
            return x
        return function(x, axes or list(range(x.ndim)), bool(integer(node, "keepdims", 1)))

    return operator


def _of_length(node: ir.Node, given: Given) -> Tensor:
    return F.normalize(needed(given, 0), p=float(integer(node, "p", 2)), dim=integer(node, "axis", -1))


def _cast(node: ir.Node, given: Given) -> Tensor:
    kind = _TYPES.get(ir.DataType(integer(node, "to")))
    return elsewhere(node, given)[0] if kind is None else needed(given, 0).to(kind)


def _concat(node: ir.Node, given: Given) -> Tensor:
    return torch.cat([x for x in given if x is not None], integer(node, "axis"))


def _divided(node: ir.Node, given: Given) -> Tensor:
    x, y = needed(given, 0), needed(given, 1)
    return x / y if x.is_floating_point() else elsewhere(node, given)[0]  # whole numbers are cut, not rounded


def _largest(*given: Tensor) -> Tensor:
    return functools.reduce(torch.maximum, given)


OPERATORS: Mapping[str, Operator] = {
    "Abs": each(torch.abs),
    "Add": each(torch.add),
    "Cast": _cast,
    "Concat": _concat,
    "DequantizeLinear": _dequantize,
    "Div": _divided,
    "Erf": each(torch.erf),
    "Exp": each(torch.exp),
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "HardSwish": each(F.hardswish),
    "Identity": each(lambda x: x),
    "LayerNormalization": _normalised,
    "LpNormalization": _of_length,
    "MatMul": each(torch.matmul),
    "Max": each(_largest),
    "Mul": each(torch.mul),
    "Pow": each(torch.pow),
    "QuantizeLinear": _quantize,
    "Reciprocal": each(torch.reciprocal),
    "ReduceMax": _reduced(lambda x, axes, keep: x.amax(axes, keep)),
    "ReduceL2": _reduced(lambda x, axes, keep: x.square().sum(axes, keep).sqrt()),
    "ReduceMean": _reduced(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceMin": _reduced(lambda x, axes, keep: x.amin(axes, keep)),
    "ReduceSum": _reduced(lambda x, axes, keep: x.sum(axes, keep)),
    "ReduceSumSquare": _reduced(lambda x, axes, keep: x.square().sum(axes, keep)),
    "Relu": each(torch.relu),
    "Reshape": _reshape,
    "Sigmoid": each(torch.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Sqrt": each(torch.sqrt),
    "Sub": each(torch.sub),
    "Tanh": each(torch.tanh),
    "Transpose": _transpose,
}
