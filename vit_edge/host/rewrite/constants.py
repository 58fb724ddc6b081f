"""Evaluate what does not depend on the image, with onnxscript's optimizer."""

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveUnusedNodesPass
from onnxscript import optimizer

from vit_edge.host.initializers import stored
from vit_edge.host.rewrite.composites import is_op
from vit_edge.host.rewrite.layout import moved
from vit_edge.host.rewrite.values import constant_of


def fold_constants(model: ir.Model) -> None:
    """Evaluate, in place, every node whose inputs are all constant, and infer shapes."""
    no_limit = 2**31
    while True:
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        optimizer.fold_constants(
            model,
            onnx_shape_inference=True,
            input_size_limit=no_limit,
            output_size_limit=no_limit,
            should_fold=_should_fold,
        )
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        if not _split_constants(model.graph):
            break
    RemoveUnusedNodesPass()(model)


def _should_fold(node: ir.Node) -> bool | None:
    """The optimizer has limits of its own for the first, and for the second no way at all."""
    return True if is_op(node, "ConstantOfShape") else False if is_op(node, "Split") else None


def _split_constants(graph: ir.Graph) -> bool:
    """Cut constants, in place, where an exporter left it to the runtime; whether there was one."""
    found = [node for node in graph if is_op(node, "Split") and constant_of(node.inputs[0]) is not None]
    for node in found:
        array = constant_of(node.inputs[0])
        for i, output in enumerate(node.outputs):
            part = None if array is None else moved(node, array, i)
            if part is None:
                return False
            name, output.name = str(output.name), f"{output.name}.cut"
            output.replace_all_uses_with(stored(graph, part, name))
        graph.remove(node, safe=True)
    return bool(found)
