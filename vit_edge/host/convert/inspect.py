"""Looks at an ONNX file and says what it is, and what the rewrite rules make of it."""

import dataclasses
import hashlib
import os
from collections import Counter
from pathlib import Path

import onnx

from vit_edge.errors import VitEdgeError
from vit_edge.host.convert.answers import answers_of
from vit_edge.host.convert.export import named
from vit_edge.host.convert.normal import normal_form
from vit_edge.host.convert.onnx_io import read_metadata, read_onnx
from vit_edge.host.convert.runtimes import oldest_onnxruntime
from vit_edge.host.rewrite.canonical import canonicalise
from vit_edge.host.rewrite.description import Description
from vit_edge.host.rewrite.rule import Outcome
from vit_edge.runtime.model.metadata import ModelMetadata
from vit_edge.spec import PATCH_FEATURES, OutputKind


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What an ONNX file is."""

    producer: str
    opsets: tuple[tuple[str, int], ...]  # (domain, version)
    ir_version: int
    onnxruntime: str  # the oldest release that loads it
    inputs: tuple[str, ...]  # "name type [shape]"
    outputs: tuple[str, ...]
    stored_values: int  # numbers in the initializers: weights, and the few constants beside them
    operators: tuple[tuple[str, int], ...]  # (operator, count), most frequent first
    sha256: str  # of the file, without external data
    metadata: ModelMetadata
    description: Description | None  # of the canonical graph
    refusal: str | None  # why it is none
    outcomes: tuple[Outcome, ...]  # of the rewrite rules; none where the file could not be prepared


def inspect_onnx(path: str | os.PathLike[str]) -> Inspection:
    """Read an ONNX file and try to canonicalise it.

    Raises:
        ModelError: no ONNX file, or unusable metadata of ours.
    """
    model = read_onnx(path)
    metadata = read_metadata(model, str(path))
    description, refusal, outcomes = _canonical(model, Path(path).name, metadata)
    weights = {tensor.name for tensor in model.graph.initializer}
    counts = Counter(_operator(node) for node in model.graph.node)
    return Inspection(
        producer=f"{model.producer_name} {model.producer_version}".strip() or "unknown",
        opsets=tuple((opset.domain or "ai.onnx", opset.version) for opset in model.opset_import),
        ir_version=model.ir_version,
        onnxruntime=oldest_onnxruntime(model),
        inputs=tuple(_tensor(value) for value in model.graph.input if value.name not in weights),
        outputs=tuple(_tensor(value) for value in model.graph.output),
        stored_values=sum(_elements(tensor) for tensor in model.graph.initializer),
        operators=tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        sha256=_sha256(path),
        metadata=metadata,
        description=description,
        refusal=refusal,
        outcomes=outcomes,
    )


def _sha256(path: str | os.PathLike[str]) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _canonical(
    model: onnx.ModelProto, name: str, metadata: ModelMetadata
) -> tuple[Description | None, str | None, tuple[Outcome, ...]]:
    spec = metadata.preprocess
    try:
        labels = None if metadata.labels is None else len(metadata.labels)
        said = metadata.output if metadata.output is not OutputKind.SINGLE_LABEL else None
        embedder = PATCH_FEATURES in {value.name for value in model.graph.output}
        answers = model if embedder else answers_of(model, name, said=said, labels=labels).model
        normal = normal_form(answers, name, None if spec is None else (spec.height, spec.width))
        if metadata.output.task is OutputKind.EMBEDDING:
            normal = named(normal, metadata.output.output_name)
        canonical = canonicalise(normal, name, allow_uncanonical=True)
    except VitEdgeError as error:
        return None, str(error), ()
    return canonical.description, canonical.refusal, canonical.outcomes


def _operator(node: onnx.NodeProto) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain else str(node.op_type)


def _tensor(value: onnx.ValueInfoProto) -> str:
    kind = value.type.tensor_type
    dims = [
        dim.dim_param or "?" if not dim.HasField("dim_value") else str(dim.dim_value)
        for dim in kind.shape.dim
    ]
    types = onnx.TensorProto.DataType
    known = kind.elem_type in types.values()  # the file is somebody else's
    name = types.Name(kind.elem_type).lower() if known else f"type {kind.elem_type}"
    return f"{value.name} {name} [{', '.join(dims)}]"


def _elements(tensor: onnx.TensorProto) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count
