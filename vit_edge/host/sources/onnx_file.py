"""Somebody's ONNX file, with labels and preprocessing from its own metadata or from options."""

import json
from pathlib import Path
from typing import Any

import onnx

from vit_edge.errors import SourceError
from vit_edge.host.sources.checkpoints import file_sha256
from vit_edge.host.sources.labels import choose_labels, label_maps
from vit_edge.host.sources.preprocessing import to_processor, with_options
from vit_edge.host.sources.types import Source, SourceKind, SourceOptions
from vit_edge.runtime.model.file import LABELS_KEY, PREPROCESS_KEY
from vit_edge.spec import PATCH_FEATURES, PreprocessSpec


def from_onnx(file: Path, options: SourceOptions) -> Source:
    """Read the interface of an ONNX image classifier; its graph is left to the loader that uses it.

    Raises:
        SourceError: not an ONNX file, external data, an interface that is no image classifier's, or nothing
            that states the preprocessing.
    """
    model = _load(file)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    stated = _preprocess(metadata, file)
    size = _image_size(model, stated, file)
    if options.image_size is not None and options.image_size != size:
        raise SourceError(
            f"{file} is fixed to {size[0]}x{size[1]} pixels: export it again at the size you want"
        )
    preprocess = with_options(stated, options, size, str(file))
    stated_labels = _labels(metadata, file)
    classes = _classes(model, len(stated_labels) if stated_labels else None, file)
    labels, note = choose_labels(options.labels, stated_labels, classes, str(file))
    return Source(
        name=file.stem,
        kind=SourceKind.ONNX,
        module=None,
        onnx_path=file,
        config=None,
        labels=labels,
        labels_note=note,
        preprocess=preprocess,
        sha256=file_sha256(file),
        huggingface_config={"model_type": "vit", "image_size": list(size), **label_maps(labels)},
        preprocessor_config=to_processor(preprocess),
    )


def _load(file: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(file, load_external_data=False)
    # protobuf raises DecodeError, but also others on bytes that resemble a message.
    except Exception as error:
        raise SourceError(f"{file} is not an ONNX file ({type(error).__name__}): export it again") from None
    if not model.graph.input or not model.graph.output or not model.graph.node:
        raise SourceError(f"{file} is not an ONNX file with inputs, outputs and nodes: export it again")
    if PATCH_FEATURES in {output.name for output in model.graph.output}:
        raise SourceError(f"{file} is an embedder: pass the classifier that it was made from")
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise SourceError(
                f"{file} keeps {tensor.name} in another file: save it as one file without external data"
            )
    return model


def _dimensions(value: onnx.ValueInfoProto) -> list[int | None]:
    shape = value.type.tensor_type.shape
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in shape.dim]


def _image_size(model: onnx.ModelProto, stated: PreprocessSpec | None, file: Path) -> tuple[int, int]:
    initialised = {tensor.name for tensor in model.graph.initializer}
    images = [value for value in model.graph.input if value.name not in initialised]
    dimensions = _dimensions(images[0]) if len(images) == 1 else []
    if len(dimensions) != 4:
        raise SourceError(
            f"{file} must have one input of rank 4, a batch of images: pass an image classifier"
        )
    channels_first = dimensions[1] == 3
    height, width = dimensions[2:] if channels_first else dimensions[1:3]
    if not channels_first and dimensions[3] != 3:
        raise SourceError(f"{file}: input {images[0].name} {dimensions} has no axis of 3 colour channels")
    if height is None or width is None:
        if stated is None:
            raise SourceError(
                f"{file}: input {images[0].name} has no fixed height and width: export it at a fixed size"
            )
        return stated.height, stated.width
    return height, width


def _classes(model: onnx.ModelProto, stated: int | None, file: Path) -> int:
    dimensions = _dimensions(model.graph.output[0])
    if len(dimensions) != 2 or (dimensions[1] is None and stated is None):
        raise SourceError(
            f"{file}: output {model.graph.output[0].name} {dimensions} is not (N, classes) logits: "
            "pass a classifier"
        )
    return dimensions[1] or stated or 0


def _preprocess(metadata: dict[str, str], file: Path) -> PreprocessSpec | None:
    if PREPROCESS_KEY not in metadata:
        return None
    try:
        return PreprocessSpec.from_json(_json(metadata[PREPROCESS_KEY], PREPROCESS_KEY, file))
    except SourceError:
        raise
    except ValueError as error:
        raise SourceError(f"{file}: metadata {PREPROCESS_KEY} is malformed: {error}") from None


def _labels(metadata: dict[str, str], file: Path) -> tuple[str, ...] | None:
    if LABELS_KEY not in metadata:
        return None
    names = _json(metadata[LABELS_KEY], LABELS_KEY, file)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise SourceError(f"{file}: metadata {LABELS_KEY} must be a list of names: pass a labels file")
    return tuple(names)


def _json(text: str, key: str, file: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise SourceError(f"{file}: metadata {key} is not JSON: export the file again") from None
