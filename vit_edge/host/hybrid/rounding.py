"""What 8 bits in some products of a float file cost, by rounding in floating point on the CPU."""

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from vit_edge.host.hybrid.products import Product
from vit_edge.host.hybrid.reaches import Feeds, Floats, Reach, steps_of
from vit_edge.host.ort import cpu_session

_UNFUSED = (("session.disable_quant_qdq", "1"),)  # rounding alone: no integer kernel, which might saturate


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
        step, zero = steps_of(reaches[tensor].range if tensor in reaches else (-1.0, 1.0))
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
