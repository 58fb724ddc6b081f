"""torch's exporter, asked once per run for what several tests ask of it.

Its answer is torch's work and none of this package's: the bytes of an ONNX file, given a module and options.
It is kept in the folder that all processes of one run share and no other run reads, by a hash of everything
that was asked, weights included. What cannot be told by its content, and modules whose code a test writes
itself, are exported each time.
"""

import functools
import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import torch
from torch import nn
from torch.onnx._internal.exporter._registration import ONNXRegistry

from vit_edge.files.write import write_file

ASKED = torch.onnx.export
READ = ONNXRegistry.from_torchlib
_CODE_THAT_STAYS = ("tests", "torch", "transformers", "vit_edge")  # packages, throughout a run


class Program:
    """What the exporter returns, as far as it is read; each caller's own."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def model_proto(self) -> onnx.ModelProto:
        return onnx.load_from_string(self._data)

    @property
    def model(self) -> onnx_ir.Model:
        return onnx_ir.from_proto(self.model_proto)


class _ByContent(pickle.Pickler):
    """Writes the same bytes for what has the same content, wherever it lies in memory."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.fast = True  # no references back to what was written before: equal strings need not be one
        self._seen: dict[int, int] = {}

    def reducer_override(self, obj: object) -> Any:
        """A tensor by hash and by whether it is one that came before, as weights may be tied."""
        if isinstance(obj, torch.Tensor):
            place = self._seen.setdefault(id(obj), len(self._seen))
            digest = hashlib.sha256(obj.detach().contiguous().numpy().tobytes()).hexdigest()
            return str, (f"{place} {obj.dtype} {tuple(obj.shape)} {digest}",)
        return NotImplemented


def key_of(module: nn.Module, asked: tuple[Any, ...], options: Mapping[str, Any]) -> str | None:
    """A hash of all that an export depends on; None where that cannot be told."""
    if any(type(part).__module__.partition(".")[0] not in _CODE_THAT_STAYS for part in module.modules()):
        return None
    content = io.BytesIO()
    try:
        _ByContent(content).dump((module, asked, sorted(options.items())))
    except (pickle.PicklingError, AttributeError, TypeError, ValueError, RecursionError):
        return None
    return hashlib.sha256(content.getvalue()).hexdigest()


@functools.cache
def operators(opset_version: int) -> ONNXRegistry:
    """What torch translates each of its operators to.

    It reads that from the source of every one of them at each export, which is a fifth of its time. Only
    translations that a caller gives are entered into it, and no test gives any.
    """
    found: ONNXRegistry = READ(opset_version=opset_version)
    return found


def keeping(folder: Path) -> Any:
    """The exporter, which keeps what it answers.

    Args:
        folder: of this run.
    """

    @functools.wraps(ASKED)
    def export(module: nn.Module, args: tuple[Any, ...], file: str | None = None, **options: Any) -> Any:
        one_file = not options.get(
            "dynamo", True
        )  # the newer exporter puts weights beside a file that it writes
        key = key_of(module, args, options) if one_file == isinstance(file, str) else None
        if key is None:
            return ASKED(module, args, file, **options)
        kept = folder / f"{key}.onnx"
        if not kept.exists():
            made = ASKED(module, args, file, **options)
            write_file(kept, made.model_proto.SerializeToString() if made else Path(str(file)).read_bytes())
            return made
        if file is None:
            return Program(kept.read_bytes())
        Path(file).write_bytes(kept.read_bytes())
        return None

    return export
