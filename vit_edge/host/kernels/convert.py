"""Applying the rules to a finished INT8 graph."""

import onnx
import onnx_ir as ir
from onnx import shape_inference
from onnx_ir.passes.common import TopologicalSortPass

from vit_edge.host.kernels.order import RULES
from vit_edge.host.rewrite.rule import Outcome, apply_rule
from vit_edge.spec import KERNELS_DOMAIN


def to_kernels(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[Outcome, ...]]:
    """The same model for vit-edge's own kernels, and what each rule did.

    Args:
        model: INT8 in QDQ form, from `lower`, as float32 and for onnxruntime's own kernels.

    Returns:
        A new model; inner values carry no shapes.
    """
    graph = ir.from_proto(_for_one_image(model))
    outcomes = tuple(apply_rule(rule, graph) for rule in RULES)
    TopologicalSortPass()(graph)
    if any(node.domain == KERNELS_DOMAIN for node in graph.graph):
        graph.opset_imports[KERNELS_DOMAIN] = 1
    for node in graph.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape, value.type = None, None
    made = ir.to_proto(graph)
    made.graph.input[0].CopyFrom(model.graph.input[0])
    del made.graph.output[:]
    made.graph.output.extend(model.graph.output)
    return made, outcomes


def _for_one_image(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which the shapes of all values are known: rows of one image are rows of each."""
    one = onnx.ModelProto()
    one.CopyFrom(model)
    del one.graph.value_info[:]
    for value in (*one.graph.input, *one.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims:
            dims[0].dim_value = 1
    return shape_inference.infer_shapes(one, data_prop=True)
