"""One form for everybody's ONNX classifiers: one float32 image (N, 3, H, W) of a fixed size, float32 weights.

Layout, number format and open sizes differ from tool to tool and say nothing about the model. What the graph
computes stays as it is; `rewrite` comes later.
"""

import dataclasses
import math

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from vit_edge.errors import ModelError
from vit_edge.host.convert.onnx_io import messages
from vit_edge.host.rewrite.affine import ChannelAffine, affine_of, image_operand
from vit_edge.host.rewrite.prepare import prepare, refuse_quantized
from vit_edge.host.rewrite.values import only_user

COLOURS = 3
_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, *_HALVES)

_GELU_CONSTANTS = (2**0.5, 2**-0.5, (2 / math.pi) ** 0.5, 0.044715)

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class ImageInput:
    """The image that a classifier takes, as its file declares it."""

    name: str
    kind: int  # TensorProto.DataType
    batch: int | None  # None: any
    channels_last: bool
    size: tuple[int | None, int | None]  # pixels (height, width)

    @property
    def fixed(self) -> Size | None:
        """Pixels (height, width) where the file fixes both."""
        height, width = self.size
        return None if height is None or width is None else (height, width)


def image_input(model: onnx.ModelProto, name: str) -> ImageInput:
    """The one input of a model, an image of three colours in either layout.

    An open channel axis means channels first, as the exporters of today declare it.

    Raises:
        ModelError: another number of inputs, another rank, no axis of colours, or no numbers for pixels.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    given = [value for value in model.graph.input if value.name not in weights]
    if len(given) != 1:
        names = ", ".join(value.name for value in given[:4]) or "none"
        raise ModelError(
            f"{name} must have one input, a batch of images (its inputs: {names}): pass an image classifier"
        )
    tensor = given[0].type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    if len(dims) != 4:
        raise ModelError(
            f"{name} must have one input of rank 4, a batch of images, not {given[0].name} of rank "
            f"{len(dims)}: pass an image classifier"
        )
    if tensor.elem_type not in (*_FLOATS, TensorProto.UINT8):
        kind = TensorProto.DataType.Name(tensor.elem_type) if tensor.elem_type else "no tensor"
        raise ModelError(f"{name}: input {given[0].name} is {kind}, not floating point or uint8 pixels")
    first = dims[1] == COLOURS or (dims[1] is None and dims[3] != COLOURS)
    if not first and dims[3] != COLOURS:
        raise ModelError(f"{name}: input {given[0].name} {dims} has no axis of 3 colour channels (RGB)")
    height, width = dims[2:] if first else dims[1:3]
    return ImageInput(given[0].name, tensor.elem_type, dims[0], not first, (height, width))


def normal_form(model: onnx.ModelProto, name: str, size: Size | None = None) -> onnx.ModelProto:
    """A copy with a float32 image input (N, 3, H, W) and float32 weights.

    Args:
        model: any ONNX image classifier.
        name: how errors call it.
        size: pixels (height, width), where the file leaves them open.

    Raises:
        ModelError: no single image input, an open size that is not given or another than the fixed one, or
            a model that is quantized already.
    """
    refuse_quantized(model, name)
    image = image_input(model, name)
    if size is not None and any(
        own not in (None, asked) for own, asked in zip(image.size, size, strict=True)
    ):
        fixed = "x".join("?" if side is None else str(side) for side in image.size)
        raise ModelError(f"{name} is fixed to {fixed} pixels: export it again at the size you want")
    height, width = image.fixed or size or (None, None)
    if height is None or width is None:
        raise ModelError(f"{name} leaves height and width of its images open: pass --image-size")
    made = onnx.ModelProto()
    made.CopyFrom(model)
    _widen(made, (*_HALVES, TensorProto.DOUBLE) if image.kind == TensorProto.DOUBLE else _HALVES)
    _declare(made, image, (height, width))
    return made if _is_sorted(made) else _sorted(made)


def is_normal(model: onnx.ModelProto, name: str) -> bool:
    """Whether `normal_form` would change more than declared sizes."""
    image = image_input(model, name)
    return image.kind == TensorProto.FLOAT and not image.channels_last and not has_halves(model)


def has_halves(model: onnx.ModelProto) -> bool:
    """Whether a weight or constant has 16 bits."""
    tensors = (each for each in messages(model) if isinstance(each, onnx.TensorProto))
    return any(each.data_type in _HALVES for each in tensors)


def normalisation_inside(model: onnx.ModelProto, name: str) -> ChannelAffine | None:
    """What a graph in normal form does to the channels of its image before anything else; None if nothing.

    Raises:
        ModelError: as in `prepare`.
    """
    image = image_input(model, name).name
    first = [node for node in model.graph.node if image in node.input]
    if all(node.op_type in ("Conv", "Shape") for node in first):
        return None
    value: ir.Value | None = prepare(model, name).graph.inputs[0]
    affine = None
    while value is not None:
        affine = affine_of(value) or affine
        node = only_user(value)
        position = None if node is None else image_operand(node)
        value = node.outputs[0] if node is not None and position is not None else None
    return affine if affine is not None and affine.changes else None


def _widen(model: onnx.ModelProto, kinds: tuple[int, ...]) -> None:
    """Float32 in place of narrower (or wider) numbers, everywhere."""
    for message in list(messages(model)):
        if isinstance(message, onnx.TensorProto) and message.data_type in kinds:
            array = _restored(numpy_helper.to_array(message))
            message.CopyFrom(numpy_helper.from_array(array, message.name))
        elif isinstance(message, onnx.TypeProto.Tensor) and message.elem_type in kinds:
            message.elem_type = TensorProto.FLOAT
        elif isinstance(message, onnx.NodeProto):
            for attribute in message.attribute:
                if attribute.name in ("to", "dtype") and attribute.i in kinds:
                    attribute.i = TensorProto.FLOAT


def _is_sorted(model: onnx.ModelProto) -> bool:
    """Whether each node stands behind those whose values it reads; converters leave some at the end."""
    late = {name for node in model.graph.node for name in node.output if name}
    for node in model.graph.node:
        if late.intersection(node.input):
            return False
        late.difference_update(node.output)
    return True


def _sorted(model: onnx.ModelProto) -> onnx.ModelProto:
    read = ir.from_proto(model)
    read.graph.sort()
    return ir.to_proto(read)


def _restored(array: np.ndarray) -> np.ndarray:
    """Float32, where a constant of GELU gets back what rounding took from it."""
    wide = array.astype(np.float32)
    for known in _GELU_CONSTANTS if array.size == 1 else ():
        if (array == np.asarray(known).astype(array.dtype)).all():
            return np.full_like(wide, known)
    return wide


def _declare(model: onnx.ModelProto, image: ImageInput, size: Size) -> None:
    """The input as float32 (N, 3, H, W); a Transpose gives the graph what it was made for."""
    batch = "batch" if image.batch is None else image.batch
    value = next(each for each in model.graph.input if each.name == image.name)
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    given = image.name
    if image.channels_last:
        given = f"{image.name}.channels_first"
        while given in taken:
            given += "_"
        transposed = helper.make_node("Transpose", [given], [image.name], f"{given}.moved", perm=[0, 2, 3, 1])
        model.graph.node.insert(0, transposed)
    value.CopyFrom(helper.make_tensor_value_info(given, TensorProto.FLOAT, [batch, COLOURS, *size]))
    del model.graph.value_info[:]  # inferred for what the input was


def takes_raw_pixels(affine: ChannelAffine) -> bool | None:
    """Whether what a graph does to its pixels is meant for 0 to 255, not for 0 to 1; None: not clear.

    Images leave a normalisation with a spread of about 1, and that of natural images is about a quarter of
    their range.
    """
    spread = math.exp(float(np.log(np.abs(affine.scale)).mean()))
    if spread <= 0.1:
        return True
    return False if spread >= 0.5 else None
