"""Which products of a float file are computed in 8 bits, and in which ranges: measured on the CPU."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Self

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from vit_edge.host.ort import cpu_session

Floats = npt.NDArray[np.float32]
Feeds = Sequence[Mapping[str, Floats]]

SHRINKS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)  # of either end of a range
KEPT = 4096  # values of a tensor that are kept of each image
_MOVES = ("Reshape", "Transpose")
_UNFUSED = (("session.disable_quant_qdq", "1"),)  # rounding alone: no integer kernel, which might saturate


@dataclasses.dataclass(frozen=True)
class Product:
    """A linear layer, the patch embedding, or both products of an attention: narrow or wide as one."""

    name: str
    """Of the layer; where its columns are split into queries, keys and values `blocks.N.packed`."""
    macs: int
    tensors: tuple[str, ...]
    """The activations that 8 bits round: what goes in, and what comes out."""
    weight: str
    """Its constant; empty of an attention."""


@dataclasses.dataclass(frozen=True)
class Reach:
    """What was seen of a tensor, and the range that 8 bits are spread over."""

    low: float
    high: float
    range: tuple[float, float]

    @property
    def whole(self) -> Self:
        """The same with a range that clips nothing that was seen."""
        return dataclasses.replace(self, range=(min(self.low, 0.0), max(self.high, 0.0)))


def products_of(model: onnx.ModelProto) -> list[Product]:
    """Every product of a file for one image, in the order of the graph."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
        for value in (*inferred.value_info, *inferred.output, *inferred.input)
    }
    constants = {constant.name: tuple(constant.dims) for constant in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    found = []
    for node in model.graph.node:
        made = node.output[0]
        if node.op_type in ("Gemm", "Conv") and node.input[1] in constants:
            weight = constants[node.input[1]]
            depth = int(np.prod(weight)) // (weight[0] if node.op_type == "Conv" else weight[1])
            parts = _parts(model, made)
            name = f"{parts[0].split('.attention.')[0]}.packed" if len(parts) > 1 else node.name
            macs = int(np.prod(shapes[made])) * depth
            found.append(Product(name, macs, (node.input[0], *parts), node.input[1]))
        elif node.op_type == "Softmax":
            scores = makers[node.input[0]]
            (mix,) = (other for other in model.graph.node if made in other.input)
            macs = int(np.prod(shapes[made])) * (shapes[scores.input[0]][-1] + shapes[mix.output[0]][-1])
            tensors = (*scores.input, scores.output[0], made, mix.input[1], mix.output[0])
            found.append(Product(mix.name.removesuffix(".mix"), macs, tensors, ""))
    return found


def _parts(model: onnx.ModelProto, name: str) -> tuple[str, ...]:
    """The tensors that a product's output is split into, or itself."""
    readers = [node for node in model.graph.node if name in node.input]
    if len(readers) == 1 and readers[0].op_type == "Split":
        return tuple(readers[0].output)
    if len(readers) == 1 and readers[0].op_type in _MOVES:
        moved = _parts(model, readers[0].output[0])
        return moved if len(moved) > 1 else (name,)
    return (name,)


def reaches_of(model: onnx.ModelProto, feeds: Feeds) -> dict[str, Reach]:
    """The extremes of every float tensor, and the range with the least squared error, from images.

    Args:
        model: of standard operators, for one image.
        feeds: what it takes, of each image.
    """
    shown = onnx.shape_inference.infer_shapes(model)
    present = {output.name for output in shown.graph.output}
    shown.graph.output.extend(
        value
        for value in shown.graph.value_info
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT and value.name not in present
    )
    session = cpu_session(shown.SerializeToString(), fused=False)
    names = [output.name for output in session.get_outputs()]
    random = np.random.default_rng(0)
    kept: dict[str, list[Floats]] = {name: [] for name in names}
    for feed in feeds:
        for name, values in zip(names, session.run(names, dict(feed)), strict=True):
            flat = values.ravel()
            some = flat if flat.size <= KEPT else random.choice(flat, KEPT, replace=False)
            kept[name].append(np.concatenate([some, [flat.min(), flat.max()]]))
    return {name: _reach(np.concatenate(values)) for name, values in kept.items()}


def _reach(values: Floats) -> Reach:
    low, high = float(values.min()), float(values.max())
    candidates = [(min(low, 0.0) * a, max(high, 0.0) * b) for a in SHRINKS for b in SHRINKS]
    best = min(candidates, key=lambda ends: _squares(values, ends))
    return Reach(low, high, best)


def _squares(values: Floats, ends: tuple[float, float]) -> float:
    """What rounding to 256 steps between two ends adds up to."""
    step, zero = _steps(ends)
    rounded = (np.clip(np.rint(values / step) + zero, 0, 255) - zero) * step
    return float(np.square(rounded - values).sum())


def _steps(ends: tuple[float, float]) -> tuple[np.float32, int]:
    step = np.float32(max(ends[1] - ends[0], 1e-9) / 255)
    return step, int(np.clip(np.rint(-ends[0] / step), 0, 255))


def rounded(
    model: onnx.ModelProto, products: Collection[Product], reaches: Mapping[str, Reach]
) -> onnx.ModelProto:
    """A copy that rounds what these products round: int8 weights per output channel, 8-bit activations."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    weights = {product.weight for product in products}
    for constant in graph.initializer:
        if constant.name in weights:
            values = _narrow_weight(numpy_helper.to_array(constant))
            constant.CopyFrom(numpy_helper.from_array(values, constant.name))
    for index, tensor in enumerate(dict.fromkeys(name for each in products for name in each.tensors)):
        step, zero = _steps(reaches[tensor].range if tensor in reaches else (-1.0, 1.0))
        parts = [f"rounding.{index}.step", f"rounding.{index}.zero"]
        graph.initializer.append(numpy_helper.from_array(np.asarray(step), parts[0]))
        graph.initializer.append(numpy_helper.from_array(np.asarray(zero, np.uint8), parts[1]))
        codes, back = f"rounding.{index}.codes", f"rounding.{index}.back"
        for node in graph.node:
            for place, name in enumerate(node.input):
                if name == tensor:
                    node.input[place] = back
        position = next((i for i, node in enumerate(graph.node) if tensor in node.output), -1) + 1
        graph.node.insert(position, helper.make_node("QuantizeLinear", [tensor, *parts], [codes]))
        graph.node.insert(position + 1, helper.make_node("DequantizeLinear", [codes, *parts], [back]))
    return made


def _narrow_weight(values: Floats) -> Floats:
    """Weights (out, in, height, width) or (in, out), rounded to 255 steps for each output channel."""
    axes = tuple(range(1, values.ndim)) if values.ndim == 4 else (0,)
    step = np.maximum(np.abs(values).max(axis=axes, keepdims=True), 1e-12) / 127
    return np.asarray(np.rint(values / step) * step, np.float32)


def logits_of(model: onnx.ModelProto, feeds: Feeds) -> Floats:
    """(images, classes)."""
    session = cpu_session(model.SerializeToString(), _UNFUSED)
    return np.concatenate([session.run(None, dict(feed))[0] for feed in feeds])


def noise(exact: Floats, made: Floats) -> float:
    """Noise power over signal power."""
    return float(np.square(made - exact, dtype=np.float64).sum() / np.square(exact, dtype=np.float64).sum())


def chosen(products: Sequence[Product], noises: Mapping[str, float], share: float) -> list[Product]:
    """The products in 8 bits: at least a share of all multiply-adds, without the noisiest of them."""
    room = (1.0 - share) * sum(product.macs for product in products)
    wide: set[str] = set()
    for product in sorted(products, key=lambda each: -noises[each.name] / each.macs):
        if product.macs <= room:
            room -= product.macs
            wide.add(product.name)
    return [product for product in products if product.name not in wide]
