"""Evaluate what does not depend on the image, with onnxscript's optimizer."""

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveUnusedNodesPass
from onnxscript import optimizer

from vit_edge.host.rewrite.composites import is_op


def fold_constants(model: ir.Model) -> None:
    """Evaluate, in place, every node whose inputs are all constant, and infer shapes."""
    no_limit = 2**31
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    optimizer.fold_constants(
        model,
        onnx_shape_inference=True,
        input_size_limit=no_limit,
        output_size_limit=no_limit,
        should_fold=lambda node: True if is_op(node, "ConstantOfShape") else None,
    )
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    RemoveUnusedNodesPass()(model)
