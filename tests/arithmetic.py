"""Integer products on the CPU that runs the tests: asked for exactly, or as they come."""

import functools

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from vit_edge.host.quantize.observe import EXACT_OPTIONS


def exact_session(model: bytes) -> onnxruntime.InferenceSession:
    """A session in which no pair of products saturates, on any CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for key, value in EXACT_OPTIONS.items():
        options.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@functools.cache
def saturates_here() -> bool:
    """Whether onnxruntime adds pairs of products in int16 on this CPU."""
    session = onnxruntime.InferenceSession(_largest_product(), providers=["CPUExecutionProvider"])
    made = session.run(None, {"x": np.full((1, 4), 255.0, np.float32)})[0]
    return bool(made[0, 0] != 4 * 255 * 127)


def _largest_product() -> bytes:
    """[255, 255, 255, 255] by [127, 127, 127, 127]: the largest pair sums there are."""
    constants = {"one": np.float32(1), "unsigned": np.uint8(0), "signed": np.int8(0)}
    weight = numpy_helper.from_array(np.full((4, 1), 127, np.int8), "w")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "unsigned"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "one", "unsigned"], ["a"]),
        helper.make_node("DequantizeLinear", ["w", "one", "signed"], ["b"]),
        helper.make_node("MatMul", ["a", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [*(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()), weight],
    )
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9
    )
    return bytes(model.SerializeToString())
