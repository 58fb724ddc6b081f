"""Bring any exporter's file to the state that the rules expect: opset 20, one image, every shape known.

Specialising to one image is what makes the batch arithmetic that exporters write (Shape, Gather, Concat) fold
away; lowering gives the batch dimension back.
"""

import re

import onnx
import onnx_ir as ir
from onnx import version_converter
from onnx.inliner import inline_selected_functions
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, InlinePass

from vit_edge.errors import ModelError
from vit_edge.host.rewrite.batch import specialise
from vit_edge.host.rewrite.constants import fold_constants
from vit_edge.host.rewrite.values import static_shape
from vit_edge.spec import WRITTEN

OPSET = WRITTEN.opset

# Operators younger than OPSET, which ONNX itself defines by those that are older.
_YOUNGER = [("", name) for name in ("Attention", "RMSNormalization", "RotaryEmbedding", "Swish")]

_QUANTIZED = re.compile(r"Quantize|Integer|^QLinear|NBits|^QGemm|^QAttention|QMoE|Bnb4")


def prepare(model: onnx.ModelProto, name: str) -> ir.Model:
    """A copy of `model` at opset 20, specialised to one image, constants folded and shapes inferred.

    Args:
        model: any ONNX classifier with one image input (N, C, H, W).
        name: how errors call it.

    Raises:
        ModelError: not one image input of a fixed size, a custom domain, or an opset that is not convertible.
    """
    refuse_quantized(model, name)
    prepared = ir.from_proto(_at_opset(_with_opsets_once(model), name))
    InlinePass()(prepared)
    _check_inputs(prepared, name)
    ClearMetadataAndDocStringPass()(prepared)
    specialise(prepared, name)
    fold_constants(prepared)
    unknown = [node.op_type for node in prepared.graph for out in node.outputs if static_shape(out) is None]
    if unknown:
        raise ModelError(
            f"{name}: the shape behind {unknown[0]} depends on the data; export it for a fixed image size"
        )
    return prepared


def refuse_quantized(model: onnx.ModelProto, name: str) -> None:
    """Refuse a model whose numbers are integers already.

    Raises:
        ModelError: it is quantized.
    """
    kinds = [node.op_type for node in model.graph.node if _QUANTIZED.search(node.op_type)]
    if kinds:
        raise ModelError(
            f"{name} is quantized already ({kinds.count(kinds[0])} {kinds[0]} among its operators): "
            "pass the float model that it was made from"
        )


def _with_opsets_once(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, or a copy that states each domain once: where one is repeated, onnx infers no shapes."""
    once = {(opset.domain, opset.version): opset for opset in model.opset_import}
    if len(once) == len(model.opset_import):
        return model
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.opset_import[:]
    made.opset_import.extend(once.values())
    return made


def _at_opset(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    if not model.graph.node:
        raise ModelError(f"{name}: has no graph; pass an ONNX image classifier")
    domains = {opset.domain: opset.version for opset in model.opset_import}
    used = {node.domain for node in model.graph.node} | {function.domain for function in model.functions}
    local = {function.domain for function in model.functions}
    foreign = sorted(used - {"", "ai.onnx"} - local)
    if foreign:
        raise ModelError(
            f"{name}: uses operators of the domain {foreign[0]}; export it with standard operators only"
        )
    version = domains.get("", domains.get("ai.onnx", 0))
    if version == OPSET:
        return model
    try:
        if version > OPSET:
            model = inline_selected_functions(model, _YOUNGER, inline_schema_functions=True)
        return version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter raises whatever its C++ side throws
        reason = str(error).splitlines()[0][:200]
        raise ModelError(f"{name}: opset {version} cannot be brought to {OPSET}: {reason}") from error


def _check_inputs(model: ir.Model, name: str) -> None:
    graph = model.graph
    images = [value for value in graph.inputs if value.name not in graph.initializers]
    if len(images) != 1 or len(graph.outputs) < 1:
        raise ModelError(f"{name}: has {len(images)} inputs; a classifier has one, the image")
    shape = images[0].shape
    if shape is None or len(shape) != 4 or images[0].dtype != ir.DataType.FLOAT:
        raise ModelError(f"{name}: input {images[0].name} is not a float32 image (N, C, H, W)")
    if not all(isinstance(size, int) and size > 0 for size in shape[1:]):
        raise ModelError(f"{name}: the image size {list(shape)} is not fixed; export it for one size")
