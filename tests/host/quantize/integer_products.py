"""Run by the tests on an emulated CPU: MatMulInteger of onnxruntime on random operands of many shapes.

Usage: python integer_products.py OUT.npz
"""

import itertools
import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

ROWS = (1, 3, 4, 7, 50)  # one row has a kernel of its own, others go in groups of up to six
INNER = (1, 3, 64, 769)
COLUMNS = (8, 17)
ZERO_POINTS = (0, 77)
CONSTANT = (False, True)  # a constant second operand is packed when the session is made


def model(rows: int, weight: np.ndarray, zero_point: int, constant: bool) -> bytes:
    inner, columns = weight.shape
    inputs = [helper.make_tensor_value_info("a", TensorProto.UINT8, [rows, inner])]
    constants = [numpy_helper.from_array(np.asarray(zero_point, np.uint8), "zero")]
    if constant:
        constants.append(numpy_helper.from_array(weight, "b"))
    else:
        inputs.append(helper.make_tensor_value_info("b", TensorProto.INT8, [inner, columns]))
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b", "zero"], ["y"])],
        "product",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.INT32, [rows, columns])],
        constants,
    )
    made: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    )
    return bytes(made.SerializeToString())


def main() -> None:
    rng = np.random.default_rng(0)
    found: dict[str, np.ndarray] = {}
    for rows, inner, columns, zero, constant in itertools.product(
        ROWS, INNER, COLUMNS, ZERO_POINTS, CONSTANT
    ):
        codes = rng.integers(0, 256, (rows, inner)).astype(np.uint8)
        weight = rng.integers(-128, 128, (inner, columns)).astype(np.int8)
        data = model(rows, weight, zero, constant)
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        given = {"a": codes} if constant else {"a": codes, "b": weight}
        case = f"rows {rows}, inner {inner}, columns {columns}, zero point {zero}, constant {constant}"
        found |= {f"{case}|a": codes, f"{case}|b": weight, f"{case}|y": session.run(None, given)[0]}
    np.savez(sys.argv[1], **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
