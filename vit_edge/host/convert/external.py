"""Weights that an ONNX file keeps in files beside it (external data), taken into the model.

Source: https://onnx.ai/onnx/repo-docs/ExternalData.html. A location comes from whoever wrote the file, so it
is a plain name in the file's own folder, and no link is followed.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from vit_edge.errors import ModelError

_MAX_BYTES = 2**31 - 1  # of all tensors together: the model is one protobuf message afterwards


def take_in(tensors: Iterable[onnx.TensorProto], file: Path) -> dict[str, str]:
    """Read the values of external tensors into them, in place.

    Args:
        tensors: of the model, in any graph of it.
        file: the ONNX file they were read from.

    Returns:
        Name of each file that was read -> its SHA-256.

    Raises:
        ModelError: a location outside the folder or behind a link, a missing or short file, or over 2 GiB.
    """
    digests: dict[str, str] = {}
    open_files: dict[str, memoryview] = {}
    total = 0
    for tensor in tensors:
        if not tensor.external_data and tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        name = entries.get("location", "")
        if name not in open_files:
            data = _read(file, name, tensor.name)
            open_files[name], digests[name] = memoryview(data), hashlib.sha256(data).hexdigest()
        values = _part(open_files[name], entries, tensor, f"{file}: {name}")
        total += len(values)
        if total > _MAX_BYTES:
            raise ModelError(
                f"{file} has more than 2 GiB of external data, which ONNX cannot hold in one file: "
                "pass a smaller model, or the checkpoint that it was exported from"
            )
        tensor.raw_data = bytes(values)
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
    return digests


def _read(file: Path, name: str, tensor: str) -> bytes:
    if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise ModelError(
            f"{file} keeps {tensor or 'a constant'} in {name[:80]!r}, which is no file of its own folder: "
            "save it as one file, or with its data beside it"
        )
    path = file.parent / name
    if path.is_symlink():
        raise ModelError(f"{path} is a link, which external data must not be: copy the file itself (cp -L)")
    more = sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelError(f"{path} is no regular file, so {file} lacks its data: export it again")
        with os.fdopen(os.open(path, os.O_RDONLY | more), "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > _MAX_BYTES:
                raise ModelError(f"{path} is larger than 2 GiB: pass the checkpoint it was exported from")
            return stream.read(size)
    except FileNotFoundError:
        raise ModelError(
            f"{file} keeps its weights in {name}, which is not beside it: copy that file there, too"
        ) from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})") from error


def _part(data: memoryview, entries: Mapping[str, str], tensor: onnx.TensorProto, where: str) -> memoryview:
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", str(len(data) - offset)))
        kind = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except (ValueError, KeyError, TypeError):
        raise ModelError(f"{where} does not say where {tensor.name} lies: export it again") from None
    elements = 1
    for size in tensor.dims:
        elements *= max(int(size), 0)
    if not 0 <= offset <= offset + length <= len(data) or (
        kind.itemsize * elements != length and tensor.data_type < onnx.TensorProto.UINT4
    ):
        raise ModelError(
            f"{where} has {len(data)} bytes and not those of {tensor.name} "
            f"({elements} elements, {length} bytes from {offset}): copy both files again"
        )
    return data[offset : offset + length]
