"""A QDQ model computed in numpy, with products as a CPU makes them that adds pairs in int16."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx.numpy_helper import to_array
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from vit_edge import read_model
from vit_edge.arrays import Array
from vit_edge.errors import ModelError
from vit_edge.host.quantize.saturation import saturating_product
from vit_edge.runtime.image.preprocess import load_pixels, normalize
from vit_edge.spec import InputForm

DOMAIN = "vit_edge.saturating"
UNSIGNED = 128  # what the runtime adds to int8 activations when it loads a file


class SaturatingProduct(OpRun):
    """The float product of quantized operands, and the share of its elements that saturation has changed."""

    op_domain = DOMAIN

    def _run(self, a: Array, scale_a: Array, zero_a: Array, b: Array, scale_b: Array) -> tuple[Array, Array]:
        shift = UNSIGNED if a.dtype == np.int8 else 0
        codes = (a.astype(np.int16) + shift).astype(np.uint8)
        exact = codes.astype(np.float64) @ b.astype(np.float64)
        made = np.empty(exact.shape, np.int64)
        for place in np.ndindex(*exact.shape[:-2]):
            made[place] = saturating_product(codes[place], b[place])
        changed = made != exact
        centred = made - (int(zero_a) + shift) * b.sum(axis=-2, keepdims=True, dtype=np.int64)
        return (centred * (scale_a * scale_b)).astype(np.float32), np.asarray(changed.mean(), np.float32)


class Prediction(NamedTuple):
    """What a saturating CPU would answer."""

    logits: npt.NDArray[np.float32]  # (images, classes)
    saturated: dict[str, float]  # per product, the share of its elements that saturation changes


def predict(path: Path, images: Sequence[Path]) -> Prediction:
    """The logits of a model file with its products saturating.

    Raises:
        ModelError: the file does not say how images are preprocessed, or has no integer product.
    """
    file = read_model(path)
    if file.preprocess is None:
        raise ModelError(f"{path} does not say how images are preprocessed")
    model = onnx.load(path)
    products = _replace_products(model)
    if not products:
        raise ModelError(f"{path} has no product of quantized operands")
    evaluator = ReferenceEvaluator(model, new_ops=[SaturatingProduct])
    logits, saturated = [], dict.fromkeys(products, 0.0)
    for image in images:
        pixels = load_pixels(image, file.preprocess)[None]
        given = normalize(pixels, file.preprocess) if file.form is InputForm.PIXEL_VALUES else pixels
        answer, *shares = evaluator.run(None, {file.form.value: given})
        logits.append(answer[0])
        for name, share in zip(products, shares, strict=True):
            saturated[name] += float(share) / len(images)
    return Prediction(np.stack(logits), saturated)


def _replace_products(model: onnx.ModelProto) -> list[str]:
    """Make every product of quantized operands a SaturatingProduct, in place; their names."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    nodes: list[onnx.NodeProto] = []
    names: list[str] = []
    for node in graph.node:
        operands = [makers[name] for name in node.input[:2] if name in makers]
        if node.op_type in ("Gemm", "MatMul") and len(operands) == 2 and _is_signed(operands[1], constants):
            names.append(node.name)
            nodes += _saturating(node, *operands)
        else:
            nodes.append(node)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.output.extend(onnx.ValueInfoProto(name=f"{name}.saturated") for name in names)
    model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    return names


def _is_signed(dequantize: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    """Whether it is symmetric int8; other types take exact kernels."""
    zero = constants.get(dequantize.input[2]) if len(dequantize.input) > 2 else None
    return zero is not None and zero.data_type == onnx.TensorProto.INT8 and not to_array(zero).any()


def _saturating(node: onnx.NodeProto, a: onnx.NodeProto, b: onnx.NodeProto) -> list[onnx.NodeProto]:
    has_bias = len(node.input) > 2
    product = f"{node.name}.unbiased" if has_bias else node.output[0]
    made = onnx.helper.make_node(
        SaturatingProduct.__name__,
        [*a.input[:3], *b.input[:2]],
        [product, f"{node.name}.saturated"],
        domain=DOMAIN,
    )
    return (
        [made, onnx.helper.make_node("Add", [product, node.input[2]], [node.output[0]])]
        if has_bias
        else [made]
    )
