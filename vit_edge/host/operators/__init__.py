"""The operators of lowered graphs in torch, one by one: for gradients, and for constants that change midway.

Values are torch tensors; codes of quantized tensors are held as whole numbers in float32, which the products
of onnxruntime's integer kernels equal to the last bits of float32. What has no counterpart here is run by
onnxruntime, and has no gradient. Semantics: https://onnx.ai/onnx/operators/.
"""

from collections.abc import Sequence

import onnx_ir as ir
from torch import Tensor

from vit_edge.host.operators import basic, layout, maps, pointwise
from vit_edge.host.operators.shared import Given, NoGradientError, Operator, elsewhere

__all__ = ["OPERATORS", "NoGradientError", "run_node"]

OPERATORS: dict[str, Operator] = {
    **basic.OPERATORS,
    **layout.OPERATORS,
    **maps.OPERATORS,
    **pointwise.OPERATORS,
}


def run_node(node: ir.Node, given: Given) -> Sequence[Tensor]:
    """The outputs of one operator.

    Args:
        node: of the standard domain, in the opset that lowering writes.
        given: its inputs in their order; None where an optional one is left out.

    Raises:
        NoGradientError: an input needs a gradient, and only onnxruntime knows the operator.
    """
    made = OPERATORS.get(node.op_type, elsewhere)(node, given)
    return [made] if isinstance(made, Tensor) else made
