"""Constants of a graph."""

import hashlib

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array


def initializer(array: Array, name: str) -> ir.Value:
    """A constant that is not in any graph yet."""
    contiguous = np.asarray(array, order="C")  # unlike ascontiguousarray, keeps a scalar a scalar
    value = ir.Value(name=name, const_value=ir.Tensor(contiguous, name=name))
    value.shape, value.dtype = ir.Shape(contiguous.shape), ir.DataType.from_numpy(contiguous.dtype)
    return value


def stored(graph: ir.Graph, array: Array, name: str) -> ir.Value:
    """A constant of a graph, which has none of the name."""
    value = initializer(array, name)
    graph.register_initializer(value)
    return value


def digest_of(array: Array) -> str:
    """Sixteen digits that tell an array from others of any type, shape or content."""
    content = f"{array.dtype}{array.shape}".encode() + array.tobytes()
    return hashlib.sha256(content).hexdigest()[:16]
