"""ConvTranspose as Conv, DepthToSpace and Slice: the same numbers as torch's, and what is left alone."""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from vit_edge.arrays import Array
from vit_edge.host.ort import cpu_session
from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.rule import Outcome, apply_rule
from vit_edge.host.rewrite.rules.expand_conv_transpose import ExpandConvTranspose
from vit_edge.host.rewrite.rules.sink_shuffle import SinkShuffle

RNG = np.random.default_rng(0)
INSIDE, SIZE = 4, (5, 3)


def transposed(
    kernel: tuple[int, int], outside: int = 6, groups: int = 1, **attributes: Any
) -> onnx.ModelProto:
    """ConvTranspose and Relu of (1, 4, 5, 3)."""
    weight = RNG.normal(size=(INSIDE, outside // groups, *kernel)).astype(np.float32)
    bias = RNG.normal(size=outside).astype(np.float32)
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w", "b"], ["c"], group=groups, **attributes),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, INSIDE, *SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def expanded(model: onnx.ModelProto) -> tuple[ir.Model, Outcome]:
    changed = ir.from_proto(model)
    outcome = apply_rule(ExpandConvTranspose, changed)
    while apply_rule(SinkShuffle, changed).fired:
        pass
    return changed, outcome


def answer(model: onnx.ModelProto, given: Array) -> Array:
    made: Array = cpu_session(model.SerializeToString()).run(None, {"x": given})[0]
    return made


def by_torch(model: onnx.ModelProto, given: Array, **how: Any) -> Array:
    weight, bias = (torch.from_numpy(numpy_helper.to_array(each).copy()) for each in model.graph.initializer)
    made: Array = torch.conv_transpose2d(torch.from_numpy(given), weight, bias, **how).relu().numpy()
    return made


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("kernel", "stride", "pads", "more"),
    [
        ((2, 2), 2, (0, 0), (0, 0)),
        ((4, 4), 2, (1, 1), (0, 0)),
        ((4, 2), 2, (1, 0), (0, 0)),
        ((4, 4), 2, (2, 1), (1, 1)),
        ((6, 3), 3, (4, 1), (2, 0)),
        ((16, 16), 8, (4, 4), (0, 0)),
        ((3, 3), 1, (1, 1), (0, 0)),
        ((3, 2), 1, (0, 1), (0, 0)),
    ],
    ids=str,
)
def test_it_gives_what_torch_gives(
    kernel: tuple[int, int], stride: int, pads: tuple[int, int], more: tuple[int, int], groups: int
) -> None:
    attributes: dict[str, Any] = {
        "strides": [stride] * 2,
        "pads": [*pads, *pads],
        "output_padding": list(more),
    }
    model = transposed(kernel, groups=groups, **attributes)
    changed, outcome = expanded(model)
    assert outcome.fired == 1
    assert not [node for node in changed.graph if is_op(node, "ConvTranspose")]
    activation = next(node for node in changed.graph if is_op(node, "Relu"))
    assert is_op(activation.inputs[0], "Conv")
    given = RNG.normal(size=(1, INSIDE, *SIZE)).astype(np.float32)
    expected = by_torch(model, given, stride=stride, padding=pads, output_padding=more, groups=groups)
    # 1e-4: other orders of sums of up to 1,024 products in float32
    np.testing.assert_allclose(answer(ir.to_proto(changed), given), expected, atol=1e-4, rtol=0)
    np.testing.assert_allclose(answer(model, given), expected, atol=1e-4, rtol=0)


def test_padding_that_differs_from_end_to_end() -> None:
    model = transposed((4, 4), strides=[2, 2], pads=[0, 3, 2, 1])
    changed, outcome = expanded(model)
    given = RNG.normal(size=(1, INSIDE, *SIZE)).astype(np.float32)
    assert outcome.fired == 1
    np.testing.assert_allclose(answer(ir.to_proto(changed), given), answer(model, given), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("kernel", "attributes", "reason"),
    [
        ((3, 3), {"strides": [2, 2]}, "no multiple of its stride"),
        ((4, 4), {"strides": [2, 4]}, "its strides differ"),
        ((2, 2), {"strides": [2, 2], "dilations": [2, 2]}, "dilation"),
        ((2, 2), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, "not written out"),
        ((2, 2), {"strides": [2, 2], "output_shape": [10, 6]}, "not written out"),
        ((2, 2), {"strides": [2, 2], "pads": [2, 2, 2, 2]}, "cuts off more than its kernel adds"),
    ],
    ids=["kernel", "strides", "dilation", "automatic", "shape", "cut"],
)
def test_what_cannot_be_expanded_says_why(
    kernel: tuple[int, int], attributes: dict[str, Any], reason: str
) -> None:
    model = transposed(kernel, **attributes)
    changed, outcome = expanded(model)
    assert outcome.fired == 0
    assert reason in outcome.declined[0]
    assert [node.op_type for node in changed.graph] == ["ConvTranspose", "Relu"]
