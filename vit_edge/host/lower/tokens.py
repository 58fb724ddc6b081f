"""Lowering of what selects, moves or pools the tokens of an image, and of Swish."""

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.host.lower.graph import GraphWriter

Shape = tuple[int, int]  # (rows, columns) of one image


def selected(w: GraphWriter, x: ir.Value, shape: Shape, bounds: tuple[int, int], name: str) -> ir.Value:
    """Rows start to stop of each image; `shape` is one image's (rows, columns)."""
    images, (start, stop) = w.images(x, *shape, f"{name}.images"), bounds
    if stop - start == 1:
        return w.op("Gather", [images, w.shared(np.asarray(start, np.int64), "index")], name, {"axis": 1})
    ends = [w.shared(np.asarray([bound], np.int64), "bound") for bound in (start, stop, 1)]
    return w.reshape(w.op("Slice", [images, *ends], f"{name}.rows"), (-1, shape[1]), name)


def permuted(w: GraphWriter, x: ir.Value, shape: Shape, order: Array, name: str) -> ir.Value:
    """The rows of each image in another order."""
    images = w.images(x, *shape, f"{name}.images")
    moved = w.op("Gather", [images, w.shared(order, "order")], f"{name}.rows", {"axis": 1})
    return w.reshape(moved, (-1, shape[1]), name)


def mean(w: GraphWriter, x: ir.Value, shape: Shape, name: str) -> ir.Value:
    """The mean of the rows of each image."""
    images = w.images(x, *shape, f"{name}.images")
    return w.op("ReduceMean", [images, w.shared(np.asarray([1], np.int64), "axes")], name, {"keepdims": 0})


def swish(w: GraphWriter, x: ir.Value, alpha: float, name: str) -> ir.Value:
    """`x * sigmoid(alpha * x)`, which onnxruntime runs as one operator."""
    inner = x
    if alpha != 1.0:
        inner = w.op("Mul", [x, w.shared(np.asarray(alpha, np.float32), "alpha")], f"{name}.scaled")
    return w.op("Mul", [x, w.op("Sigmoid", [inner], f"{name}.sigmoid")], name)
