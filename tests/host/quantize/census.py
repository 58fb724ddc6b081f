"""What is left of a quantized file once onnxruntime has optimised it."""

import collections
from pathlib import Path

import onnx

from tests.host.quantize.small_vit import session
from vit_edge.host.plan import QuantPlan

PRODUCTS = (
    "MatMul",
    "Gemm",
    "Conv",
    "FusedConv",
    "FusedMatMul",
    "FusedGemm",
    "Attention",
    "MultiHeadAttention",
)
# QLinearMatMul is the mix of a static attention that writes the uint8 input of its projection itself.
# With the place of the second operand.
INTEGER = {"QGemm": 3, "MatMulIntegerToFloat": 1, "QLinearMatMul": 3, "QLinearConv": 3}


def optimised(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The graph that runs."""
    session(model, folder / "optimised.onnx")
    return onnx.load(folder / "optimised.onnx")


def assert_integer(
    graph: onnx.GraphProto, plan: QuantPlan, linears: int, attentions: int, in_codes: int = 0
) -> None:
    """Every planned product runs in an integer kernel with a signed second operand, and nothing is left over.

    Args:
        graph: as optimised.
        plan: what was quantized.
        linears: how many Linears the model has.
        attentions: how many attentions.
        in_codes: how many products the operands of an attention leave as codes.
    """
    count = collections.Counter(node.op_type for node in graph.node)
    integer = len(plan.linears) + 2 * len(plan.attentions) + (plan.embed is not None)
    assert sum(count[kind] for kind in INTEGER) == integer, count
    floats = linears - len(plan.linears) + 2 * (attentions - len(plan.attentions)) + (plan.embed is None)
    assert sum(count[kind] for kind in PRODUCTS) == floats, count
    assert count["QLinearMatMul"] <= len(plan.attentions), count  # their mix only
    assert count["DequantizeLinear"] == 2 * in_codes, count  # of keys and values, on their way to int8
    assert count["QLinearConv"] == in_codes, count
    for kind in ("QLinearSoftmax", "SkipLayerNormalization", "MatMulInteger"):
        assert count[kind] == 0, count
    for node in graph.node:
        if node.op_type in INTEGER:
            assert second_operand_type(graph, node) == onnx.TensorProto.INT8, node.name


def second_operand_type(graph: onnx.GraphProto, node: onnx.NodeProto) -> int:
    """The element type, followed back through Transpose and the like to a constant or a QuantizeLinear."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {output: maker for maker in graph.node for output in maker.output}
    name = node.input[INTEGER[node.op_type]]
    while name not in constants:
        maker = makers[name]
        # the type of what QuantizeLinear makes is that of its zero point
        name = maker.input[2] if maker.op_type == "QuantizeLinear" else maker.input[0]
    return int(constants[name].data_type)
