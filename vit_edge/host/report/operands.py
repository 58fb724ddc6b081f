"""Which tensors of an INT8 file are quantized, and how: read from the graph, whoever wrote it.

Understood are QuantizeLinear and DequantizeLinear pairs (QDQ), QLinearMatMul, QLinearConv and QGemm
(QOperator), and DynamicQuantizeLinear with MatMulInteger or ConvInteger. Only operands of products count.
"""

import dataclasses
import enum
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx

_FLOAT_PRODUCTS = frozenset({"MatMul", "Gemm", "Conv"})  # integer products between a QDQ pair
_QOPERATOR_PRODUCTS = frozenset({"QLinearMatMul", "QLinearConv", "QGemm"})
_INTEGER_PRODUCTS = frozenset({"MatMulInteger", "ConvInteger"})
PRODUCTS = _FLOAT_PRODUCTS | _QOPERATOR_PRODUCTS | _INTEGER_PRODUCTS | {"MatMulIntegerToFloat"}
_QUANTIZERS = frozenset({"QuantizeLinear", "DynamicQuantizeLinear"})
_MOVES = frozenset({"Transpose", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity"})
_PASSED = _MOVES | {"DequantizeLinear"}
_OUTPUT_FIRST = frozenset({"Conv", "ConvInteger", "QLinearConv"})  # their weights are (out, in, ...)
_CODES = frozenset({onnx.TensorProto.INT8, onnx.TensorProto.UINT8})

Array = npt.NDArray[np.float64]


class RangeKind(enum.Enum):
    """When the range of an activation is settled."""

    STATIC = "static"  # one range, in the file
    IMAGE = "per run"  # one range, measured at run time (DynamicQuantizeLinear)
    # One scale per token (row), measured at run time, by QuantizeLinear of x / row scale.
    PER_TOKEN = "per row"  # noqa: S105


@dataclasses.dataclass(frozen=True)
class Operand:
    """A quantized activation."""

    layer: str  # name of the product that reads it
    second: bool  # it is the second factor, as keys and values are
    kind: RangeKind
    values: str  # tensor that is quantized
    coded: str  # input of QuantizeLinear: `values`, or for ROW their quotient by the row scale
    scale: float  # of `coded`; 0 for IMAGE
    low: int  # smallest code less the zero point
    high: int


@dataclasses.dataclass(frozen=True)
class Weight:
    """An INT8 weight."""

    layer: str
    reaches: Array  # (out,), largest magnitude per output channel, as real numbers


class QuantizedGraph:
    """Finds operands and weights.

    Args:
        model: without external data.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._constants |= {
            node.output[0]: attribute.t
            for node in graph.node
            if node.op_type == "Constant"
            for attribute in node.attribute
            if attribute.name == "value"
        }
        self._nodes = list(graph.node)
        self._maker = {output: node for node in graph.node for output in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self._readers[name].append(node)

    def operands(self) -> list[Operand]:
        """The quantized activations in graph order, each with the first product that reads it."""
        found = (self._operand(node) for node in self._nodes)
        return [operand for operand in found if operand is not None]

    def weights(self) -> list[Weight]:
        """The INT8 weights in graph order."""
        found = (self._weight(node) for node in self._nodes if node.op_type in PRODUCTS)
        return [weight for weight in found if weight is not None]

    def _operand(self, node: onnx.NodeProto) -> Operand | None:
        if node.op_type not in _QUANTIZERS or node.input[0] in self._constants:
            return None
        reader = self._product(node.output[0])
        if reader is None:
            return None
        product, second = reader
        source = node.input[0]
        if node.op_type == "DynamicQuantizeLinear":
            return Operand(_name(product), second, RangeKind.IMAGE, source, source, 0.0, 0, 255)
        scale, zero = self._array(node.input[1]), self._zero_point(node)
        if scale is None or scale.size != 1 or zero is None:
            return None
        limits = np.iinfo(zero.dtype.name)
        low, high = int(limits.min) - int(zero.flat[0]), int(limits.max) - int(zero.flat[0])
        rows = self._divided_by_row(source)
        kind = RangeKind.STATIC if rows is None else RangeKind.PER_TOKEN
        step = float(scale.flat[0])
        return Operand(_name(product), second, kind, rows or source, source, step, low, high)

    def _product(self, name: str) -> tuple[onnx.NodeProto, bool] | None:
        """The first product that reads a tensor, perhaps moved, and whether as its second factor."""
        for reader in self._readers[name]:
            if reader.op_type in PRODUCTS:
                return reader, reader.input[0] != name
            if reader.op_type in _PASSED and reader.input[0] == name:
                found = self._product(reader.output[0])
                if found is not None:
                    return found
        return None

    def _divided_by_row(self, name: str) -> str | None:
        """x, where the tensor is x times the reciprocal of what a reduction over its rows found."""
        maker = self._maker.get(name)
        if maker is None or maker.op_type not in ("Mul", "Div"):
            return None
        for x, factor in (maker.input, maker.input[::-1]):
            if maker.op_type == "Div" and factor != maker.input[1]:
                continue
            if any(step.op_type in ("ReduceMax", "ReduceMin") for step in self._back(factor, 4)):
                return str(x)
        return None

    def _back(self, name: str, steps: int) -> Iterator[onnx.NodeProto]:
        """The chain of first inputs that leads to a tensor."""
        while steps and (maker := self._maker.get(name)) is not None and maker.input:
            yield maker
            name, steps = maker.input[0], steps - 1

    def _weight(self, node: onnx.NodeProto) -> Weight | None:
        for codes, scale, zero in self._coded_inputs(node):
            if codes.ndim < 2 or scale.size not in (1, *codes.shape):
                continue
            axis = 0 if node.op_type in _OUTPUT_FIRST else self._out_axis(node, codes, scale)
            real = codes.astype(np.float64) - _along(zero, codes.ndim, axis)
            real *= _along(scale, codes.ndim, axis)
            others = tuple(dim for dim in range(codes.ndim) if dim != axis)
            return Weight(_name(node), np.abs(real).max(axis=others))
        return None

    def _out_axis(self, node: onnx.NodeProto, codes: npt.NDArray[np.generic], scale: Array) -> int:
        transposed = any(item.name == "transB" and item.i for item in node.attribute)
        last = codes.ndim - 1
        return 0 if transposed or (scale.size > 1 and scale.size != codes.shape[last]) else last

    def _coded_inputs(self, node: onnx.NodeProto) -> Iterator[tuple[npt.NDArray[np.generic], Array, Array]]:
        """(codes, scale, zero point) of every constant int8 or uint8 input of a product."""
        for name in node.input:
            maker = self._maker.get(name)
            if maker is not None and maker.op_type == "DequantizeLinear":
                found = self._triple(maker.input[0], maker.input[1], maker.input[2:3])
            elif node.op_type in _QOPERATOR_PRODUCTS and name == node.input[3]:
                found = self._triple(name, node.input[4], node.input[5:6])
            elif node.op_type in _INTEGER_PRODUCTS and name == node.input[1]:
                found = self._triple(name, self._scale_behind(node), node.input[3:4])
            elif node.op_type == "MatMulIntegerToFloat" and name == node.input[1]:
                found = self._triple(name, node.input[3], node.input[5:6])
            else:
                continue
            if found is not None:
                yield found

    def _scale_behind(self, node: onnx.NodeProto) -> str:
        """The constant scale in the chain Cast, Mul(x scale * weight scale) behind an integer product."""
        name = node.output[0]
        for _ in range(3):
            following = self._readers[name][:1]
            if not following:
                return ""
            if following[0].op_type == "Mul":
                other = next((each for each in following[0].input if each != name), "")
                maker = self._maker.get(other)
                inputs = [other] if maker is None else list(maker.input)
                return next((each for each in inputs if each in self._constants), "")
            name = following[0].output[0]
        return ""

    def _triple(
        self, codes: str, scale: str, zero: list[str]
    ) -> tuple[npt.NDArray[np.generic], Array, Array] | None:
        tensor, factor = self._constants.get(codes), self._array(scale)
        if tensor is None or tensor.data_type not in _CODES or factor is None:
            return None
        offset = self._array(zero[0]) if zero and zero[0] else None
        offsets = np.zeros(1) if offset is None else offset.astype(np.float64)
        return onnx.numpy_helper.to_array(tensor), factor.astype(np.float64), offsets

    def _zero_point(self, node: onnx.NodeProto) -> npt.NDArray[np.generic] | None:
        if len(node.input) < 3 or not node.input[2]:
            return np.zeros(1, np.uint8)  # what the operator takes where it is left out
        return self._array(node.input[2])

    def _array(self, name: str) -> npt.NDArray[np.generic] | None:
        tensor = self._constants.get(name)
        return None if tensor is None else onnx.numpy_helper.to_array(tensor)


def _along(values: Array, rank: int, axis: int) -> Array:
    shape = [1] * rank
    shape[axis] = values.size
    return values.reshape(shape)


def _name(node: onnx.NodeProto) -> str:
    return node.name or node.output[0]
