"""Opens checkpoint files safely: safetensors, or torch's zip with tensors only."""

import argparse
import hashlib
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vit_edge.errors import SourceError
from vit_edge.host.hashes import combined_sha256
from vit_edge.host.sources.checkpoints.containers import chosen_state
from vit_edge.host.sources.checkpoints.torchscript import read_torchscript

PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar")  # .tar: x.pth.tar, which is no archive
SUFFIXES = (".safetensors", *PICKLE_SUFFIXES)

# What training scripts put beside the weights and what runs no code when it is opened: their arguments, and
# numbers of numpy such as the best accuracy.
_NUMPY_SCALAR = np.float64(0).__reduce__()[0]
_NUMPY_TYPES = [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "?")]
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *_NUMPY_TYPES,
    *((_NUMPY_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
# Whole-number buffers that say nothing about what a ViT computes, or that follow from its sizes.
_COUNTERS = (
    "input_resolution",
    "context_length",
    "vocab_size",
    "position_ids",
    "num_batches_tracked",
    "n_averaged",
    "relative_position_index",
)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes in lower-case hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_sha256(paths: Sequence[Path]) -> str:
    """SHA-256 of one file, or of several as `combined_sha256` has it."""
    return combined_sha256({path.name: file_sha256(path) for path in paths})


def read_state_dict(path: Path, allow_pickle: bool = False, weights: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint as float32 on the CPU; see `read_weights`."""
    return read_weights((path,), allow_pickle, weights)


def read_weights(
    paths: Sequence[Path], allow_pickle: bool = False, weights: str | None = None
) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint's file, or of all its shards, as float32 on the CPU.

    A training checkpoint is opened where its weights are, and what wrappers put before every key is taken
    off (`chosen_state`).

    Args:
        paths: `.safetensors`, `.pth`, `.pt`, `.bin`, `.ckpt` or `.tar` files.
        allow_pickle: run whatever code a pickle contains; only for files whose author is trusted.
        weights: which set of weights is meant, where there are several.

    Raises:
        SourceError: no such file, not a checkpoint, damaged, something else than finite floating-point
            tensors, several sets of weights, or a pickle that needs `allow_pickle`.
    """
    loaded: dict[str, Any] = {}
    for path in paths:
        part = read_checkpoint(path, allow_pickle)
        if not isinstance(part, Mapping):
            raise SourceError(
                f"{path} holds a {type(part).__name__}, not a state dict: save model.state_dict() instead"
            )
        loaded.update(part)
    return as_float32(chosen_state(loaded, str(paths[0]), weights), paths)


def read_checkpoint(path: Path, allow_pickle: bool = False) -> object:
    """What a checkpoint file holds: a mapping, or whatever was pickled.

    Raises:
        SourceError: as in `read_weights`, as far as the file itself is concerned.
    """
    if not path.is_file():
        raise SourceError(
            f"{path} is no file: pass a checkpoint with one of the suffixes {', '.join(SUFFIXES)}"
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in PICKLE_SUFFIXES:
        return _read_pickle(path, allow_pickle)
    raise SourceError(f"{path} is no checkpoint: its suffix must be one of {', '.join(SUFFIXES)}")


def as_float32(state: Mapping[str, object], paths: Sequence[Path]) -> dict[str, Tensor]:
    """The tensors of a state dict as float32; counters are left out.

    Raises:
        SourceError: anything that is no finite floating-point tensor, or more numbers than the files hold.
    """
    where, room = paths[0], sum(path.stat().st_size for path in paths)
    result = {}
    for key, value in state.items():
        if key.rpartition(".")[2] in _COUNTERS:
            continue
        if isinstance(value, Tensor):
            room -= value.numel()  # each takes a byte at least, unless one stands for many
        if room < 0:
            raise SourceError(f"{where} claims more numbers than it has bytes: it is damaged or hostile")
        result[key] = _float32(key, value, where)
    return result


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceError(f"{path} is not a complete safetensors file ({cause}): fetch it again") from None
    return state


def _read_pickle(path: Path, allow_pickle: bool) -> object:
    parts = _parts(path)
    if any("/code/" in part.filename for part in parts):
        # torch packs the program, but no numbers
        _refuse_packed(path, [part for part in parts if "/data/" in part.filename])
        return read_torchscript(path)
    _refuse_packed(path, parts)
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except pickle.UnpicklingError:
        if allow_pickle or not _starts_like_checkpoint(path):
            raise SourceError(f"{path} is no torch checkpoint, or a damaged one: fetch it again") from None
        raise SourceError(
            f"{path} holds Python objects beside tensors, which can run any code when opened: save its state "
            "dict as safetensors, or pass --allow-pickle if you trust its author"
        ) from None
    except ModuleNotFoundError as error:  # only where code may run
        raise SourceError(
            f"{path} holds objects of {error.name}, which is not installed: install it, or save the state "
            "dict where it is"
        ) from None
    # A damaged file can make the unpickler raise nearly anything.
    except Exception as error:
        raise SourceError(
            f"{path} is no torch checkpoint, or a damaged one ({type(error).__name__}): fetch it again"
        ) from None


def _parts(path: Path) -> list[zipfile.ZipInfo]:
    """What a zip file holds; nothing where it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []  # an older format, or damaged: torch says so


def _refuse_packed(path: Path, parts: Sequence[zipfile.ZipInfo]) -> None:
    """A zip file of torch stores its parts as they are, so they are no larger than the file."""
    size = path.stat().st_size
    packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
    if packed or sum(part.file_size for part in parts) > size:
        raise SourceError(f"{path} is a compressed archive: unpack it and pass the checkpoint inside")


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


def _float32(key: str, value: object, path: Path) -> Tensor:
    usual = isinstance(value, Tensor) and value.layout is torch.strided and value.device.type == "cpu"
    if not isinstance(value, Tensor) or not usual or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise SourceError(f"{path}: {key} is {kind}, not a floating-point tensor: save the state dict alone")
    tensor = value.detach().float()
    if not torch.isfinite(tensor).all():
        raise SourceError(f"{path}: {key} contains NaN or infinity: the checkpoint is damaged or diverged")
    return tensor


def pickled_module(loaded: object, weights: str | None, where: str) -> nn.Module | None:
    """The module of a file that holds one whole, or None; `weights` as in `read_weights`.

    Raises:
        SourceError: several, and none of them was named.
    """
    if isinstance(loaded, nn.Module):
        return loaded
    found = {}
    if isinstance(loaded, Mapping):
        found = {str(key): value for key, value in loaded.items() if isinstance(value, nn.Module)}
    if weights is not None:
        return found.get(weights)
    if len(found) > 1:
        raise SourceError(f"{where} holds several models ({', '.join(found)}): name one with --weights")
    return next(iter(found.values()), None)
