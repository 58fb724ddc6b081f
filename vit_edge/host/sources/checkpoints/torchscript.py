"""The tensors of a TorchScript archive, as OpenAI keeps CLIP: read as data, its program is not run.

Source: pickler.cpp and export_module.cpp of torch/csrc/jit/serialization. An archive is a zip file with
`data.pkl`, a pickle of objects of classes that its code defines, whose attributes are tensors, numbers and
further objects. Here such a class is an empty one, and the few functions that rebuild tensors are our own, so
that nothing of the file decides what is called.
"""

import collections
import io
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vit_edge.errors import SourceError

_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_DEEPEST = 64  # modules within modules
_MOST_BYTES = 64 * 2**20  # of the pickle, which holds names and sizes alone


class _Object:
    """An object of the program's own classes, of which nothing but its attributes is known."""


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers by name, as `torch.jit.load(path).state_dict()` has them.

    Args:
        path: a TorchScript archive.

    Raises:
        SourceError: a damaged archive, or one that holds something else than modules of tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            root = _Reader(archive, path).load()
        return dict(_tensors(root, "", _DEEPEST))
    except SourceError:
        raise
    # A damaged pickle can make the unpickler raise nearly anything.
    except Exception as error:
        raise SourceError(
            f"{path} is a TorchScript program whose tensors cannot be read ({type(error).__name__}): save "
            "the state dict of torch.jit.load(...) as safetensors"
        ) from None


class _Reader(pickle.Unpickler):
    """Knows what TorchScript writes, and refuses every other name."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        (name,) = (each for each in archive.namelist() if each.endswith("/data.pkl"))
        if archive.getinfo(name).file_size > _MOST_BYTES:
            raise SourceError(f"{path} is no TorchScript archive of a model: its index is too large")
        super().__init__(io.BytesIO(archive.read(name)))
        self._archive, self._stem, self._path = archive, name.removesuffix("data.pkl"), path
        self._kept: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Our own in place of whatever is named."""
        if module == "__torch__" or module.startswith("__torch__."):
            return _Object
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuilt
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch.jit._pickle":
            return _first
        if module == "torch" and name in _DTYPES:
            return name
        if (module, name) == ("torch", "device"):
            return _first
        raise SourceError(
            f"{self._path} is a TorchScript program that names {module}.{name}, which no model's tensors need"
            ": save the state dict of torch.jit.load(...) as safetensors"
        )

    def persistent_load(self, pid: Any) -> Tensor:
        """A storage, one-dimensional."""
        _, kind, key, _, count = pid
        if key not in self._kept:
            data = bytearray(self._archive.read(f"{self._stem}data/{key}"))
            dtype = _DTYPES[kind]
            self._kept[key] = torch.frombuffer(data, dtype=dtype) if data else torch.zeros(0, dtype=dtype)
        if self._kept[key].numel() < int(count):
            raise SourceError(f"{self._path}: storage {key} is shorter than it says: fetch it again")
        return self._kept[key]


def _rebuilt(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return torch.as_strided(storage, size, stride, offset).clone()  # refuses what lies outside


def _first(value: Any = None, *_: Any) -> Any:
    return value


def _tensors(value: object, name: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, _Object) and depth:
        for key, inner in vars(value).items():
            yield from _tensors(inner, f"{name}.{key}" if name else key, depth - 1)
