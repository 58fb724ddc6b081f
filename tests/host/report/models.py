"""Tiny quantized classifiers as real ONNX files, whose every scale is known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from vit_edge.arrays import Float32
from vit_edge.runtime.model.file import ModelFile, read_model
from vit_edge.spec import Interpolation, PreprocessSpec, ResizeMode

SIDE, CLASSES = 8, 5
SPEC = PreprocessSpec(
    SIDE, SIDE, ResizeMode.NONE, (SIDE, SIDE), Interpolation.NEAREST, (0.0,) * 3, (1.0,) * 3
)


def weights() -> Float32:
    """(8, CLASSES): rows of an image by classes."""
    return np.random.default_rng(2).normal(0, 1, (SIDE, CLASSES)).astype(np.float32)


def model(
    folder: Path,
    nodes: Sequence[NodeProto],
    constants: dict[str, npt.NDArray[np.generic]],
    name: str = "m.onnx",
    metadata: dict[str, str] | None = None,
) -> ModelFile:
    """Nodes from `rows` (N, 24, 8), those of all channels, to `mixed` (N, 24, CLASSES), then their mean."""
    constants = constants | {
        "shape": np.asarray([-1, 3 * SIDE, SIDE], np.int64),
        "axes": np.asarray([1], np.int64),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["pixel_values", "shape"], ["rows"]),
            *nodes,
            helper.make_node("ReduceMean", ["mixed", "axes"], ["logits"], keepdims=0),
        ],
        "toy",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    path = folder / name
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    helper.set_model_props(proto, metadata or {})
    onnx.save(proto, path)
    return read_model(path)


def float_nodes() -> list[NodeProto]:
    """One product."""
    return [helper.make_node("MatMul", ["rows", "w"], ["mixed"], name="layer")]


def qdq_nodes(source: str = "rows", product: str = "mixed") -> list[NodeProto]:
    """The product between QuantizeLinear and DequantizeLinear."""
    return [
        helper.make_node("QuantizeLinear", [source, "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        helper.make_node("DequantizeLinear", ["codes", "w_scale"], ["dw"], axis=1),
        helper.make_node("MatMul", ["dq", "dw"], [product], name="layer"),
    ]


def row_nodes() -> list[NodeProto]:
    """Each row divided by its reach first."""
    return [
        helper.make_node("Abs", ["rows"], ["magnitude"]),
        helper.make_node("ReduceMax", ["magnitude", "last"], ["reach"], keepdims=1),
        helper.make_node("Reciprocal", ["reach"], ["inverse"]),
        helper.make_node("Mul", ["rows", "inverse"], ["unit"]),
        *qdq_nodes("unit", "product"),
        helper.make_node("Mul", ["product", "reach"], ["mixed"]),
    ]


def coded() -> tuple[npt.NDArray[np.int8], Float32]:
    """`weights` as int8 codes with one scale per class."""
    real = weights()
    scale = (np.abs(real).max(axis=0) / 127).astype(np.float32)
    return np.rint(real / scale).astype(np.int8), scale


def constants(scale: float, zero: int) -> dict[str, npt.NDArray[np.generic]]:
    """Of `qdq_nodes` and `row_nodes`."""
    codes, w_scale = coded()
    return {
        "scale": np.asarray(scale, np.float32),
        "zero": np.asarray(zero, np.uint8),
        "codes": codes,
        "w_scale": w_scale,
        "last": np.asarray([-1], np.int64),
    }


def pictures(count: int = 3) -> npt.NDArray[np.uint8]:
    """(count, 8, 8, 3) of noise without a black row, off the grid of a range that starts at zero."""
    return np.random.default_rng(3).integers(1, 200, (count, SIDE, SIDE, 3), dtype=np.uint8)
