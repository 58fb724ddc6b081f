"""Opens a checkpoint file safely: safetensors, or torch's zip with tensors only."""

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from vit_edge.errors import SourceError

PICKLE_SUFFIXES = (".pth", ".pt", ".bin")
SUFFIXES = (".safetensors", *PICKLE_SUFFIXES)
_CONTAINERS = ("state_dict", "model", "state_dict_ema", "model_ema")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes in lower-case hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_state_dict(path: Path, allow_pickle: bool = False) -> dict[str, Tensor]:
    """Read the tensors of a `.safetensors`, `.pth`, `.pt` or `.bin` file as float32 on the CPU.

    A training checkpoint that holds its weights under one of `state_dict`, `model`, `state_dict_ema` or
    `model_ema` is opened there; the `module.` that DataParallel puts before every key is taken off.

    Args:
        path: the file.
        allow_pickle: run whatever code a `.pth` file contains; only for files whose author is trusted.

    Raises:
        SourceError: no such file, not a checkpoint, damaged, something else than finite floating-point
            tensors, or a pickle that needs `allow_pickle`.
    """
    if not path.is_file():
        raise SourceError(
            f"{path} is no file: pass a checkpoint with one of the suffixes {', '.join(SUFFIXES)}"
        )
    if path.suffix == ".safetensors":
        loaded: object = _read_safetensors(path)
    elif path.suffix in PICKLE_SUFFIXES:
        loaded = _read_pickle(path, allow_pickle)
    else:
        raise SourceError(f"{path} is no checkpoint: its suffix must be one of {', '.join(SUFFIXES)}")
    state = _unwrap(loaded, path)
    return {key: _float32(key, value, path) for key, value in state.items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceError(f"{path} is not a complete safetensors file ({cause}): fetch it again") from None
    return state


def _read_pickle(path: Path, allow_pickle: bool) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except pickle.UnpicklingError:
        if allow_pickle or not _starts_like_checkpoint(path):
            raise SourceError(f"{path} is no torch checkpoint, or a damaged one: fetch it again") from None
        raise SourceError(
            f"{path} holds Python objects beside tensors, which can run any code when opened: save its state "
            "dict as safetensors, or set allow_pickle if you trust its author"
        ) from None
    # A damaged file can make the unpickler raise nearly anything.
    except Exception as error:
        raise SourceError(
            f"{path} is no torch checkpoint, or a damaged one ({type(error).__name__}): fetch it again"
        ) from None


def _starts_like_checkpoint(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(2)
    return head in (
        b"PK",
        b"\x80\x02",
        b"\x80\x03",
        b"\x80\x04",
        b"\x80\x05",
    )  # zip, or pickle protocol 2 to 5


def _unwrap(loaded: object, path: Path) -> Mapping[str, Any]:
    if not isinstance(loaded, Mapping):
        raise SourceError(
            f"{path} holds a {type(loaded).__name__}, not a state dict: save model.state_dict() instead"
        )
    inner = [name for name in _CONTAINERS if isinstance(loaded.get(name), Mapping)]
    if len(inner) > 1:
        raise SourceError(f"{path} holds several sets of weights ({', '.join(inner)}): save the one you mean")
    state: Mapping[Any, Any] = loaded[inner[0]] if inner else loaded
    if not state or not all(isinstance(key, str) for key in state):
        raise SourceError(f"{path} holds no named tensors: save model.state_dict() instead")
    if all(key.startswith("module.") for key in state):
        return {key.removeprefix("module."): value for key, value in state.items()}
    return state


def _float32(key: str, value: object, path: Path) -> Tensor:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise SourceError(f"{path}: {key} is {kind}, not a floating-point tensor: save the state dict alone")
    tensor = value.detach().float()
    if not torch.isfinite(tensor).all():
        raise SourceError(f"{path}: {key} contains NaN or infinity: the checkpoint is damaged or diverged")
    return tensor
