"""The operators of lowered graphs in torch, one by one: for gradients, and for constants that change midway.

Values are torch tensors; codes of quantized tensors are held as whole numbers in float32, which the products
of onnxruntime's integer kernels equal to the last bits of float32. What has no counterpart here is run by
onnxruntime, and has no gradient. Semantics: https://onnx.ai/onnx/operators/.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor

from vit_edge.host.ort import cpu_session
from vit_edge.host.rewrite.values import integer, integers, number
from vit_edge.spec import WRITTEN

Given = Sequence[Tensor | None]
Operator = Callable[[ir.Node, Given], Tensor | Sequence[Tensor]]

_TYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.INT8: torch.int8,
    ir.DataType.BOOL: torch.bool,
}


class NoGradientError(Exception):
    """A value that needs a gradient meets an operator that has none here."""


def run_node(node: ir.Node, given: Given) -> Sequence[Tensor]:
    """The outputs of one operator.

    Args:
        node: of the standard domain, in the opset that lowering writes.
        given: its inputs in their order; None where an optional one is left out.

    Raises:
        NoGradientError: an input needs a gradient, and only onnxruntime knows the operator.
    """
    made = OPERATORS.get(node.op_type, _elsewhere)(node, given)
    return [made] if isinstance(made, Tensor) else made


def _each(function: Callable[..., Tensor]) -> Operator:
    """An operator that has no attributes."""
    return lambda _, given: function(*given)


def _gemm(node: ir.Node, given: Given) -> Tensor:
    a, b, rest = _needed(given, 0), _needed(given, 1), given[2:]
    a = a.T if integer(node, "transA") else a
    b = b.T if integer(node, "transB") else b
    product: Tensor = a @ b
    if (alpha := number(node, "alpha", 1.0)) != 1.0:
        product = product * alpha
    if not rest or rest[0] is None:
        return product
    return product + rest[0] * number(node, "beta", 1.0)


def _quantize(node: ir.Node, given: Given) -> Tensor:
    x, scale, zero = (_needed(given, i) for i in range(3))  # lowering always writes the zero point
    info = torch.iinfo(zero.dtype)
    codes = torch.round(x / _along(scale, x, node)) + _along(zero.to(torch.float32), x, node)
    return codes.clamp(info.min, info.max)


def _dequantize(node: ir.Node, given: Given) -> Tensor:
    codes, scale, zero = (_needed(given, i) for i in range(3))
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
    x, sizes = _needed(given, 0), _whole(given[1])
    if not integer(node, "allowzero"):
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


def _transpose(node: ir.Node, given: Given) -> Tensor:
    x = _needed(given, 0)
    return x.permute(integers(node, "perm", tuple(reversed(range(x.ndim)))))


def _split(node: ir.Node, given: Given) -> Sequence[Tensor]:
    x, axis = _needed(given, 0), integer(node, "axis")
    if len(given) > 1 and given[1] is not None:
        return torch.split(x, _whole(given[1]), axis)
    return torch.split(x, -(-x.shape[axis] // len(node.outputs)), axis)


def _slice(_: ir.Node, given: Given) -> Tensor:
    x, ends, rest = _needed(given, 0), given[2], given[3:]
    first = _whole(given[1])
    axes = _whole(rest[0]) if rest and rest[0] is not None else list(range(len(first)))
    steps = _whole(rest[1]) if len(rest) > 1 and rest[1] is not None else [1] * len(first)
    for start, end, axis, step in zip(first, _whole(ends), axes, steps, strict=True):
        places = range(x.shape[axis])[start:end:step]
        x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64))
    return x


def _gather(node: ir.Node, given: Given) -> Tensor:
    x, places = _needed(given, 0), _needed(given, 1)
    axis = integer(node, "axis")
    axis += x.ndim if axis < 0 else 0
    wrapped = torch.where(places < 0, places + x.shape[axis], places).to(torch.int64)
    taken = x.index_select(axis, wrapped.reshape(-1))
    return taken.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


def _pad(node: ir.Node, given: Given) -> Tensor:
    mode = node.attributes.get("mode")
    x, pads, rest = _needed(given, 0), given[1], given[2:]
    if (mode is not None and mode.as_string() != "constant") or len(rest) > 1:
        return _elsewhere(node, given)[0]
    sizes = _whole(pads)
    ends = [size for i in reversed(range(x.ndim)) for size in (sizes[i], sizes[i + x.ndim])]
    value = 0.0 if not rest or rest[0] is None else float(rest[0])
    return F.pad(x, ends, value=value)


def _normalised(node: ir.Node, given: Given) -> Tensor:
    x, scale, rest = _needed(given, 0), given[1], given[2:]
    if integer(node, "axis", -1) not in (-1, x.ndim - 1):
        return _elsewhere(node, given)[0]
    return F.layer_norm(x, x.shape[-1:], scale, rest[0] if rest else None, number(node, "epsilon", 1e-5))


def _softmax(node: ir.Node, given: Given) -> Tensor:
    return torch.softmax(_needed(given, 0), integer(node, "axis", -1))


def _gelu(node: ir.Node, given: Given) -> Tensor:
    kind = node.attributes.get("approximate")
    return F.gelu(_needed(given, 0), approximate="none" if kind is None else kind.as_string())


def _reduced(function: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    """A reduction over the axes of the second input, or over all of them."""

    def operator(node: ir.Node, given: Given) -> Tensor:
        x = _needed(given, 0)
        axes = _whole(given[1]) if len(given) > 1 and given[1] is not None else []
        if not axes and integer(node, "noop_with_empty_axes"):
            return x
        return function(x, axes or list(range(x.ndim)), bool(integer(node, "keepdims", 1)))

    return operator


def _cast(node: ir.Node, given: Given) -> Tensor:
    kind = _TYPES.get(ir.DataType(integer(node, "to")))
    return _elsewhere(node, given)[0] if kind is None else _needed(given, 0).to(kind)


def _concat(node: ir.Node, given: Given) -> Tensor:
    return torch.cat([x for x in given if x is not None], integer(node, "axis"))


def _whole(values: Tensor | None) -> list[int]:
    """A list of whole numbers that an operator takes as an input."""
    return [] if values is None else [int(value) for value in values.reshape(-1).tolist()]


def _needed(given: Given, place: int) -> Tensor:
    """An input that the operator cannot do without."""
    x = given[place]
    if x is None:
        raise ValueError(f"input {place} is missing")
    return x


def _divided(node: ir.Node, given: Given) -> Tensor:
    x, y = _needed(given, 0), _needed(given, 1)
    return (
        x / y if x.is_floating_point() else _elsewhere(node, given)[0]
    )  # whole numbers are cut, not rounded


def _elsewhere(node: ir.Node, given: Given) -> Sequence[Tensor]:
    """By onnxruntime, in a session of this operator alone."""
    if any(x is not None and x.requires_grad for x in given):
        raise NoGradientError(f"{node.op_type} has no gradient here")
    arrays = {f"x{i}": x.detach().numpy() for i, x in enumerate(given) if x is not None}
    inputs = {
        name: ir.Value(
            name=name, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.from_numpy(array.dtype))
        )
        for name, array in arrays.items()
    }
    outputs = [ir.Value(name=f"y{i}") for i in range(len(node.outputs))]
    taken = [inputs.get(f"x{i}") for i in range(len(given))]
    alone = ir.Node("", node.op_type, taken, node.attributes.values(), outputs=outputs, name="alone")
    graph = ir.Graph(
        list(inputs.values()), outputs, nodes=[alone], opset_imports={"": WRITTEN.opset}, name="n"
    )
    model = ir.to_proto(ir.Model(graph, ir_version=WRITTEN.ir))
    made = cpu_session(model.SerializeToString()).run(None, arrays)
    return [torch.from_numpy(np.asarray(values)) for values in made]


def _largest(*given: Tensor) -> Tensor:
    return functools.reduce(torch.maximum, given)


OPERATORS: Mapping[str, Operator] = {
    "Abs": _each(torch.abs),
    "Add": _each(torch.add),
    "Cast": _cast,
    "Concat": _concat,
    "DequantizeLinear": _dequantize,
    "Div": _divided,
    "Erf": _each(torch.erf),
    "Exp": _each(torch.exp),
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "HardSwish": _each(F.hardswish),
    "Identity": _each(lambda x: x),
    "LayerNormalization": _normalised,
    "MatMul": _each(torch.matmul),
    "Max": _each(_largest),
    "Mul": _each(torch.mul),
    "Pad": _pad,
    "QuantizeLinear": _quantize,
    "Reciprocal": _each(torch.reciprocal),
    "ReduceMax": _reduced(lambda x, axes, keep: x.amax(axes, keep)),
    "ReduceMean": _reduced(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceSum": _reduced(lambda x, axes, keep: x.sum(axes, keep)),
    "Relu": _each(torch.relu),
    "Reshape": _reshape,
    "Sigmoid": _each(torch.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Sqrt": _each(torch.sqrt),
    "Sub": _each(torch.sub),
    "Tanh": _each(torch.tanh),
    "Transpose": _transpose,
}
