"""What the operators in torch have in common, and how onnxruntime runs what has no counterpart there."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from vit_edge.host.ort import cpu_session
from vit_edge.spec import WRITTEN

Given = Sequence[Tensor | None]
Operator = Callable[[ir.Node, Given], Tensor | Sequence[Tensor]]


class NoGradientError(Exception):
    """A value that needs a gradient meets an operator that has none here."""


def each(function: Callable[..., Tensor]) -> Operator:
    """An operator that has no attributes."""
    return lambda _, given: function(*given)


def flat(node: ir.Node, given: Given) -> Sequence[Tensor]:
    """An operator whose result stays as it is, or jumps, where its inputs move a little: a slope of zero."""
    return elsewhere(node, [None if x is None else x.detach() for x in given])


def whole(values: Tensor | None) -> list[int]:
    """A list of whole numbers that an operator takes as an input."""
    return [] if values is None else [int(value) for value in values.reshape(-1).tolist()]


def optional(given: Given, place: int) -> Tensor | None:
    """An input that may be left out."""
    return given[place] if place < len(given) else None


def needed(given: Given, place: int) -> Tensor:
    """An input that the operator cannot do without."""
    x = given[place]
    if x is None:
        raise ValueError(f"input {place} is missing")
    return x


def elsewhere(node: ir.Node, given: Given) -> Sequence[Tensor]:
    """By onnxruntime, in a session of this operator alone."""
    if any(x is not None and x.requires_grad for x in given):
        raise NoGradientError(f"{node.op_type} has no gradient here")
    arrays = {f"x{i}": x.detach().numpy() for i, x in enumerate(given) if x is not None}
    inputs = {
        name: ir.Value(
            name=name, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.from_numpy(array.dtype))
        )
        for name, array in arrays.items()
    }
    outputs = [ir.Value(name=f"y{i}") for i in range(len(node.outputs))]
    taken = [inputs.get(f"x{i}") for i in range(len(given))]
    alone = ir.Node("", node.op_type, taken, node.attributes.values(), outputs=outputs, name="alone")
    graph = ir.Graph(
        list(inputs.values()), outputs, nodes=[alone], opset_imports={"": WRITTEN.opset}, name="n"
    )
    model = ir.to_proto(ir.Model(graph, ir_version=WRITTEN.ir))
    made = cpu_session(model.SerializeToString()).run(None, arrays)
    return [torch.from_numpy(np.asarray(values)) for values in made]
