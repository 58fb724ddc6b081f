"""Tiny embedders whose INT8 form is known: the float one's weights with noise."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper


def noisy_copy(source: Path, target: Path, share: float) -> Path:
    """Write a model with noise on its float weights, as a share of their own size, and without its Relu.

    Behind a Relu a patch of a tiny model may be zero, and with noise not.
    """
    model = onnx.load(source)
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Identity"
    generator = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim > 1:
            noise = generator.normal(0, float(values.std()), values.shape)
            moved = (values + share * noise).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
    onnx.save(model, target)
    return target
