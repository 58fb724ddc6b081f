"""Running graphs with operators of vit-edge-kernels, and what they should give."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import helper

from vit_edge.runtime.model.own_kernels import kernel_instructions, kernels_library
from vit_edge.spec import KERNELS_DOMAIN

Array = npt.NDArray[Any]
Attributes = dict[str, int | float]
INSTALLED = importlib.util.find_spec("vit_edge_kernels") is not None and kernel_instructions() is not None
NEEDS_KERNELS = pytest.mark.skipif(
    not INSTALLED, reason="vit-edge-kernels is not installed, or needs a CPU with AVX2: pip install ./kernels"
)
KINDS = ("avx512-vnni", "avx-vnni", "avx2")


@pytest.fixture(params=KINDS)
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each instruction set that this CPU has."""
    name: str = request.param
    monkeypatch.setenv("VIT_EDGE_KERNELS", name)
    if kernel_instructions() is None:
        pytest.skip(f"this CPU has no {name}")
    return name


def session(model: onnx.ModelProto, threads: int = 1) -> onnxruntime.InferenceSession:
    """With the operators registered, and exact products where onnxruntime's own would saturate."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.register_custom_ops_library(kernels_library())
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def operator(
    name: str,
    inputs: Sequence[Array | None],
    attributes: Attributes,
    outputs: Sequence[int],
    constant: Sequence[int] = (),
    threads: int = 1,
) -> list[Array]:
    """What one operator gives.

    Args:
        name: of the operator.
        inputs: None where one is left out.
        attributes: of the node.
        outputs: their element types, of onnx.TensorProto.
        constant: places of inputs that are weights.
        threads: within the operator.
    """
    named = [f"in{place}" if array is not None else "" for place, array in enumerate(inputs)]
    made = [f"out{place}" for place in range(len(outputs))]
    node = helper.make_node(name, named, made, domain=KERNELS_DOMAIN)
    node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    given = {f"in{place}": array for place, array in enumerate(inputs) if array is not None}
    weights = {f"in{place}" for place in constant}
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info(key, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for key, array in given.items()
            if key not in weights
        ],
        [helper.make_tensor_value_info(key, kind, None) for key, kind in zip(made, outputs, strict=True)],
        [onnx.numpy_helper.from_array(array, key) for key, array in given.items() if key in weights],
    )
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(KERNELS_DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9)
    feed = {key: array for key, array in given.items() if key not in weights}
    found: list[Array] = session(model, threads).run(None, feed)
    return found
