"""Lowering of what selects, moves or pools the tokens of an image, of RmsNorm and of Swish."""

import numpy as np
import onnx_ir as ir

from vit_edge.arrays import Array
from vit_edge.errors import ModelError
from vit_edge.host.lower.graph import GraphWriter
from vit_edge.host.rewrite.composites import MEAN, PERMUTE, RMS_NORM, SELECT, SWISH, is_composite
from vit_edge.host.rewrite.values import constant_of, integer, number, static_shape

Shape = tuple[int, int]  # (rows, columns) of one image


def moves(node: ir.Node) -> bool:
    """Whether a node is one that `written` knows."""
    return any(is_composite(node, kind) for kind in (SELECT, MEAN, PERMUTE, RMS_NORM, SWISH))


def written(w: GraphWriter, node: ir.Node, x: ir.Value, second: ir.Value | None, where: str) -> ir.Value:
    """What such a node becomes.

    Args:
        w: writes the nodes.
        node: the composite.
        x: what its first input has become.
        second: the same of its second input: sizes of merged tokens, which a mean takes into account, or the
            weight of a normalization.
        where: the model's name for messages.

    Raises:
        ModelError: an order that is not constant.
    """
    name, (rows, columns) = node.name or node.op_type, static_shape(node.inputs[0]) or (0, 0)
    shape = rows, columns
    if is_composite(node, SELECT):
        return selected(w, x, shape, (integer(node, "start"), integer(node, "stop")), name)
    if is_composite(node, MEAN):
        return mean(w, x, shape, name, second)
    if is_composite(node, RMS_NORM) and second is not None:
        return rms_normed(w, x, second, number(node, "epsilon"), name)
    if is_composite(node, SWISH):
        return swish(w, x, number(node, "alpha"), name)
    order = constant_of(node.inputs[1])
    if order is None:
        raise ModelError(f"{where}: the order of {name} is not constant")
    return permuted(w, x, shape, order, name)


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


def mean(w: GraphWriter, x: ir.Value, shape: Shape, name: str, sizes: ir.Value | None = None) -> ir.Value:
    """The mean of the rows of each image, each counting as its size says where there are any."""
    images, axes = w.images(x, *shape, f"{name}.images"), w.shared(np.asarray([1], np.int64), "axes")
    if sizes is None:
        return w.op("ReduceMean", [images, axes], name, {"keepdims": 0})
    each = w.reshape(sizes, (-1, shape[0], 1), f"{name}.sizes")
    weighed = w.op("Mul", [images, each], f"{name}.weighed")
    total = w.op("ReduceSum", [weighed, axes], f"{name}.total", {"keepdims": 0})
    return w.op("Div", [total, w.op("ReduceSum", [each, axes], f"{name}.of", {"keepdims": 0})], name)


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
