"""ONNX files in and out: what comes in is not trusted, what goes out carries no trace of a machine."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import Message

from vit_edge.errors import ModelError
from vit_edge.files import read_file, write_file
from vit_edge.host.convert.external import take_in
from vit_edge.host.hashes import combined_sha256
from vit_edge.runtime.model.accepted import check_bounded
from vit_edge.runtime.model.header import read_header
from vit_edge.runtime.model.metadata import ModelMetadata

PRODUCER = "vit-edge"

_MAX_BYTES = 2**31 - 1  # protobuf's own limit
_NOTES = (
    "doc_string",
    "metadata_props",
)  # on any message: prose, stack traces, paths of the exporting machine


def read_onnx(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """Read an ONNX file that may come from anybody, with what it keeps in files beside it.

    Raises:
        ModelError: as in `read_hashed`.
    """
    return read_hashed(path)[0]


def read_hashed(path: str | os.PathLike[str]) -> tuple[onnx.ModelProto, str]:
    """Read an ONNX file that may come from anybody, with its external data taken in.

    Returns:
        The model, and the SHA-256 of all its files (`combined_sha256`).

    Raises:
        ModelError: missing, no regular file, empty, beyond 2 GiB, no ONNX model, or external data that is not
            beside the file.
    """
    file = Path(path)
    data = _bytes_of(file)
    model = _parsed(data, str(file))
    digests = take_in(_tensors(model), file)
    return model, combined_sha256({file.name: hashlib.sha256(data).hexdigest(), **digests})


def _bytes_of(file: Path) -> bytes:
    try:
        data = read_file(file, _MAX_BYTES)
    except FileNotFoundError:
        raise ModelError(f"{file} does not exist; give an ONNX file") from None
    except OSError as error:
        raise ModelError(f"{file} cannot be read ({error.strerror}); give an ONNX file") from error
    if not data:
        raise ModelError(f"{file} is empty; export the model again")
    return data


def parse_onnx(data: bytes, name: str) -> onnx.ModelProto:
    """Parse a self-contained ONNX model.

    Args:
        data: the bytes of a file.
        name: how errors call it.

    Raises:
        ModelError: no ONNX model, one without a graph, or one with weights in another file.
    """
    model = _parsed(data, name)
    for tensor in _tensors(model):
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ModelError(
                f"{name} keeps {tensor.name or 'a constant'} in another file (external data); "
                "save it as one file"
            )
    return model


def _parsed(data: bytes, name: str) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's errors share no base with what its C side throws
        raise ModelError(f"{name} is no ONNX model ({type(error).__name__}); export it again") from None
    if not (model.graph.node and model.graph.input and model.graph.output):
        raise ModelError(f"{name} is no ONNX model with inputs, outputs and nodes; export it again")
    try:
        check_bounded(read_header(data))
    except ValueError as error:
        raise ModelError(f"{name} {error}") from None
    return model


def read_metadata(model: onnx.ModelProto, name: str) -> ModelMetadata:
    """What a model says about itself; nothing where it is somebody else's.

    Raises:
        ModelError: metadata of ours that is malformed; the message names the key.
    """
    try:
        return ModelMetadata.of(properties(model))
    except ValueError as error:
        raise ModelError(f"{name} {error}") from None


def properties(model: onnx.ModelProto) -> dict[str, str]:
    """All metadata_props."""
    return {entry.key: entry.value for entry in model.metadata_props}


def finish(model: onnx.ModelProto, metadata: ModelMetadata) -> onnx.ModelProto:
    """A copy fit to be handed out: with this metadata, without prose, stack traces, paths and unused domains.

    The shapes of inner values go, too: every engine infers them, and one that fixes a dynamic batch when it
    loads (tract) takes the name of the batch in them for another size.
    """
    finished = onnx.ModelProto()
    finished.CopyFrom(model)
    del finished.graph.value_info[:]
    _strip(finished)
    finished.producer_name, finished.producer_version = PRODUCER, ""
    used = {"" if domain == "ai.onnx" else domain for domain in _domains(finished)}
    kept = [opset for opset in finished.opset_import if opset.domain in used]
    del finished.opset_import[:]
    finished.opset_import.extend(kept)
    onnx.helper.set_model_props(finished, metadata.to_properties())
    return finished


def to_bytes(model: onnx.ModelProto, name: str) -> bytes:
    """The bytes of a model, checked by the onnx checker; the same model gives the same bytes.

    Raises:
        ModelError: beyond 2 GiB, or not valid ONNX.
    """
    try:
        data: bytes = model.SerializeToString(deterministic=True)
    except Exception as error:  # protobuf raises its own EncodeError or ValueError
        raise ModelError(f"{name} is larger than 2 GiB, which ONNX cannot hold in one file") from error
    try:
        onnx.checker.check_model(data)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"{name} is not valid ONNX ({str(error).splitlines()[0][:200]})") from error
    return data


def check_output(path: str | os.PathLike[str]) -> None:
    """Refuse a path that cannot be written, before the work whose result it is to hold.

    Raises:
        ModelError: a folder, or a file in a folder that does not exist.
    """
    file = Path(path)
    if file.is_dir():
        raise ModelError(f"{file} is a folder; name the ONNX file to write")
    if not file.parent.is_dir():
        raise ModelError(f"{file} cannot be written, there is no folder {file.parent}; make it first")


def save_onnx(model: onnx.ModelProto, path: str | os.PathLike[str]) -> int:
    """Write one file, complete or not at all; returns its size in bytes.

    Raises:
        ModelError: the model cannot be one valid file, or the file cannot be written.
    """
    check_output(path)
    file = Path(path)
    data = to_bytes(model, str(file))
    try:
        write_file(file, data)
    except OSError as error:
        raise ModelError(f"{file} cannot be written ({error.strerror})") from error
    return len(data)


def messages(message: Message) -> Iterator[Message]:
    """A protobuf message and every message inside it."""
    yield message
    for _, value in message.ListFields():
        if isinstance(value, Message):
            yield from messages(value)
        elif not isinstance(value, str | bytes | int | float):
            for item in value:
                if not isinstance(item, Message):
                    break  # a list of numbers or strings holds no message
                yield from messages(item)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    return (message for message in messages(model) if isinstance(message, onnx.TensorProto))


def _strip(model: onnx.ModelProto) -> None:
    for message in list(messages(model)):
        for note in _NOTES:
            if note in message.DESCRIPTOR.fields_by_name:
                message.ClearField(note)


def _domains(model: onnx.ModelProto) -> set[str]:
    return {message.domain for message in messages(model) if isinstance(message, onnx.NodeProto)}
