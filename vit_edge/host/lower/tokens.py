"""Lowering of what selects, moves or pools the tokens of an image, of RmsNorm and of Swish."""

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


def with_table(w: GraphWriter, x: ir.Value, table: ir.Value, shape: Shape, name: str) -> ir.Value:
    """The tokens of each image, and a constant row for each of them added."""
    images = w.images(x, *shape, f"{name}.images")
    return w.flattened(w.op("Add", [images, table], name), shape[1], f"{name}.flat")


def rms_normed(w: GraphWriter, x: ir.Value, scale: ir.Value, epsilon: float, name: str) -> ir.Value:
    """Each row over the root of its mean square, times the scale (columns,).

    Written out as onnxruntime fuses it, since the operator of its own came with opset 23. Who cannot hold the
    squares, half precision and integers, gets half of the LayerNormalization of (x, -x), whose mean is zero.
    """
    if w.narrow:
        return _half_of_both(w, x, scale, epsilon, name)
    square = w.op("Pow", [x, w.shared(np.asarray(2.0, np.float32), "two")], f"{name}.square")
    mean = w.op("ReduceMean", [square, w.shared(np.asarray([-1], np.int64), "axes")], f"{name}.mean")
    shifted = w.op("Add", [mean, w.shared(np.asarray(epsilon, np.float32), "epsilon")], f"{name}.shifted")
    return w.op(
        "Mul", [w.op("Div", [x, w.op("Sqrt", [shifted], f"{name}.root")], f"{name}.row"), scale], name
    )


def _half_of_both(w: GraphWriter, x: ir.Value, scale: ir.Value, epsilon: float, name: str) -> ir.Value:
    gamma = scale.const_value
    if gamma is None:
        raise ValueError(f"{name}: the scale is not constant")
    columns = gamma.size
    minus = w.op("Mul", [x, w.shared(np.asarray(-1.0, np.float32), "minus")], f"{name}.minus")
    both = w.op("Concat", [x, minus], f"{name}.both", {"axis": -1})
    twice = w.constant(np.tile(gamma.numpy(), 2), f"{name}.scale")
    normed = w.op("LayerNormalization", [both, twice], f"{name}.normed", {"axis": -1, "epsilon": epsilon})
    ends = [w.shared(np.asarray([bound], np.int64), "bound") for bound in (0, columns, 1)]
    return w.op("Slice", [normed, *ends], name)


def swish(w: GraphWriter, x: ir.Value, alpha: float, name: str) -> ir.Value:
    """`x * sigmoid(alpha * x)`, which onnxruntime runs as one operator."""
    inner = x
    if alpha != 1.0:
        inner = w.op("Mul", [x, w.shared(np.asarray(alpha, np.float32), "alpha")], f"{name}.scaled")
    return w.op("Mul", [x, w.op("Sigmoid", [inner], f"{name}.sigmoid")], name)
