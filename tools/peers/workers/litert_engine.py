"""LiteRT's interpreter with XNNPACK, on one thread of the CPU."""

import importlib.metadata

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def version():
    return f"LiteRT {importlib.metadata.version('ai-edge-litert')}"


def load(path, options):
    del options
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(image):
        interpreter.set_tensor(given["index"], as_integers(image, given))
        interpreter.invoke()
        return as_floats(interpreter.get_tensor(answer["index"]), answer)

    return run


def as_integers(values, tensor):
    """Floats in the form of an input, which a statically quantized file wants as integers."""
    if tensor["dtype"] is np.float32:
        return values
    scale, zero = tensor["quantization"]
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.rint(values / scale) + zero, limits.min, limits.max).astype(tensor["dtype"])


def as_floats(values, tensor):
    """The other way for an output."""
    if tensor["dtype"] is np.float32:
        return values
    scale, zero = tensor["quantization"]
    return (values.astype(np.float32) - zero) * scale
