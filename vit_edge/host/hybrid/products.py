"""The products of a lowered float file: what a compiler that quantizes by itself is told a type for."""

import dataclasses

import numpy as np
import onnx

_MOVES = ("Reshape", "Transpose")


@dataclasses.dataclass(frozen=True)
class Product:
    """A linear layer, the patch embedding, or both products of an attention: narrow or wide as one."""

    name: str
    """Of the layer; where its columns are split into queries, keys and values `blocks.N.packed`."""
    macs: int
    tensors: tuple[str, ...]
    """The activations that 8 bits round: what goes in, and what comes out."""
    weight: str
    """Its constant; empty of an attention."""

    @property
    def layer(self) -> str:
        """The linear layer that its constant belongs to; empty of an attention."""
        return self.weight.removesuffix(".weight")


def products_of(model: onnx.ModelProto) -> list[Product]:
    """Every product of a file for one image, in the order of the graph."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
        for value in (*inferred.value_info, *inferred.output, *inferred.input)
    }
    constants = {constant.name: tuple(constant.dims) for constant in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    found = []
    for node in model.graph.node:
        made = node.output[0]
        if node.op_type in ("Gemm", "Conv") and node.input[1] in constants:
            weight = constants[node.input[1]]
            depth = int(np.prod(weight)) // (weight[0] if node.op_type == "Conv" else weight[1])
            parts = _parts(model, made)
            name = f"{parts[0].split('.attention.')[0]}.packed" if len(parts) > 1 else node.name
            macs = int(np.prod(shapes[made])) * depth
            found.append(Product(name, macs, (node.input[0], *parts), node.input[1]))
        elif node.op_type == "Softmax":
            scores = makers[node.input[0]]
            (mix,) = (other for other in model.graph.node if made in other.input)
            macs = int(np.prod(shapes[made])) * (shapes[scores.input[0]][-1] + shapes[mix.output[0]][-1])
            tensors = (*scores.input, scores.output[0], made, mix.input[1], mix.output[0])
            found.append(Product(mix.name.removesuffix(".mix"), macs, tensors, ""))
    return found


def _parts(model: onnx.ModelProto, name: str) -> tuple[str, ...]:
    """The tensors that a product's output is split into, or itself."""
    readers = [node for node in model.graph.node if name in node.input]
    if len(readers) == 1 and readers[0].op_type == "Split":
        return tuple(readers[0].output)
    if len(readers) == 1 and readers[0].op_type in _MOVES:
        moved = _parts(model, readers[0].output[0])
        return moved if len(moved) > 1 else (name,)
    return (name,)
