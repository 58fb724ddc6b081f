"""A detector and a segmenter of a few numbers, as ONNX files that carry all they need."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vit_edge.arrays import Array
from vit_edge.host.convert.onnx_io import finish, save_onnx
from vit_edge.runtime.model.metadata import ModelMetadata
from vit_edge.spec import Interpolation, OutputKind, PreprocessSpec, ResizeMode

SIDE, QUERIES, NAMES = 12, 4, ("ant", "bee", "cat")
SPEC = PreprocessSpec(
    SIDE, SIDE, ResizeMode.EXACT, (SIDE, SIDE), Interpolation.BILINEAR, (0.5,) * 3, (0.5,) * 3
)


def _saved(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: dict[str, Array],
    outputs: dict[str, list[int]],
    spec: PreprocessSpec,
) -> Path:
    image = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])
    given = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
        for name, shape in outputs.items()
    ]
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "places", [image], given, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    told = ModelMetadata(NAMES, spec, (), ("places", "0" * 64), OutputKind.MAP)
    save_onnx(finish(model, told), path)
    return path


def detector(path: Path, spec: PreprocessSpec = SPEC) -> Path:
    """Boxes that move with the colours of the image, some of them of nothing."""
    random = np.random.default_rng(1)
    nodes = [
        helper.make_node("ReduceMean", ["pixel_values", "axes"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "to_logits"], ["flat_logits"]),
        helper.make_node("Reshape", ["flat_logits", "logits_shape"], ["logits"]),
        helper.make_node("MatMul", ["colour", "to_boxes"], ["flat_boxes"]),
        helper.make_node("Sigmoid", ["flat_boxes"], ["shares"]),
        helper.make_node("Reshape", ["shares", "boxes_shape"], ["pred_boxes"]),
    ]
    classes = len(NAMES) + 1
    constants: dict[str, Array] = {
        "axes": np.asarray([2, 3], np.int64),
        "to_logits": random.normal(0, 40, (3, QUERIES * classes)).astype(np.float32),
        "to_boxes": random.normal(0, 5, (3, QUERIES * 4)).astype(np.float32),
        "logits_shape": np.asarray([-1, QUERIES, classes], np.int64),
        "boxes_shape": np.asarray([-1, QUERIES, 4], np.int64),
    }
    return _saved(path, nodes, constants, {"logits": [QUERIES, classes], "pred_boxes": [QUERIES, 4]}, spec)


def segmenter(path: Path, spec: PreprocessSpec = SPEC) -> Path:
    """Each class where a mixture of colours is strongest."""
    weight = np.random.default_rng(2).normal(size=(len(NAMES), 3, 1, 1)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["pixel_values", "weight"], ["scores"])]
    return _saved(path, nodes, {"weight": weight}, {"scores": [len(NAMES), SIDE, SIDE]}, spec)
