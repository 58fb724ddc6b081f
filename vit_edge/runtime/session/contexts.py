"""Models that an execution provider has compiled for one device, kept in the user's cache folder.

What is kept is onnxruntime's EPContext form in one piece: an ONNX file whose nodes hold the compiled graph.
It belongs to one model, provider, device and set of options, and to the versions of onnxruntime and of the
provider; where any of them is another, or the file is damaged, the model is compiled again.

An engine runs what it finds there in place of a model whose hash was checked. So each file bears a seal
(HMAC-SHA256, RFC 2104) over its bytes and over what it belongs to, the model's own hash among it, by a secret
that only this user can read; and whatever passes goes through the same check of its header as a model file.
"""

import dataclasses
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import onnxruntime

from vit_edge import fields
from vit_edge.files import read_file, scratch_folder
from vit_edge.runtime.device.machine import version_of
from vit_edge.runtime.device.user_cache import read_cached, user_secret, write_cached
from vit_edge.runtime.model.accepted import check_compiled

_MOST_BYTES = 2**31  # what ONNX can hold in one file
_FOLDER = "contexts"
_HEAD = frozenset({"shares", "seal"})
_PURPOSE = b"vit-edge compiled model"  # no seal of another kind of file passes for this one

Shares = tuple[tuple[str, float], ...]  # (provider, share of graph nodes before compilation)


@dataclasses.dataclass(frozen=True)
class ContextKey:
    """What a compiled model is good for."""

    model: str  # SHA-256 of the file that was compiled
    provider: str  # full name
    device: str  # maker and kind, as the provider reports them
    provider_options: tuple[tuple[str, str], ...]
    session_options: tuple[tuple[str, str], ...]
    package: str  # distribution that holds the provider, with its version
    runtime: str = str(onnxruntime.__version__)

    @property
    def file(self) -> str:
        """Where it is kept; one version replaces another."""
        lasting = {**self.to_json(), "package": "", "runtime": ""}
        digest = hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()
        return f"{_FOLDER}/{digest[:32]}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return dataclasses.asdict(self) | {
            "provider_options": dict(self.provider_options),
            "session_options": dict(self.session_options),
        }


@dataclasses.dataclass(frozen=True)
class Context:
    """A compiled model."""

    data: bytes  # ONNX
    shares: Shares  # of the model that it was made from


def versioned(package: str) -> str:
    """A distribution's name with its version, or alone where it is not installed as one."""
    version = version_of(package)
    return package if version is None else f"{package} {version}"


def read_context(key: ContextKey) -> Context | None:
    """What was kept for this key.

    None where nothing was, or what is there is for other versions, damaged, not sealed by this user, or no
    model that may be loaded.
    """
    found = read_cached(key.file, _MOST_BYTES)
    secret = None if found is None else user_secret()
    if found is None or secret is None:
        return None
    head, _, data = found.partition(b"\n")
    try:
        said = fields.exact_keys(fields.parse_json(head, "context"), _HEAD, "context")
        shares = tuple(
            (name, fields.number(share, "share"))
            for name, share in fields.mapping(said["shares"], "shares").items()
        )
        context = Context(data, shares)
        if not hmac.compare_digest(fields.string(said["seal"], "seal").encode(), _seal(key, context, secret)):
            return None
        check_compiled(data)
    except ValueError:
        return None
    return context


def write_context(key: ContextKey, context: Context) -> bool:
    """Keep a compiled model, whole or not at all; False where the folder cannot be written."""
    secret = user_secret()
    if secret is None:
        return False
    head = {"shares": dict(context.shares), "seal": _seal(key, context, secret).decode()}
    return write_cached(key.file, json.dumps(head).encode() + b"\n" + context.data)


def _seal(key: ContextKey, context: Context, secret: bytes) -> bytes:
    """In hexadecimal digits."""
    belongs = json.dumps([key.to_json(), list(context.shares)], sort_keys=True).encode()
    digests = (hashlib.sha256(part).digest() for part in (_PURPOSE, belongs, context.data))
    return hmac.new(secret, b"".join(digests), hashlib.sha256).hexdigest().encode()


@contextmanager
def compiling() -> Iterator[tuple[Mapping[str, str], Callable[[], bytes | None]]]:
    """Session config entries that make onnxruntime write the compiled model, and what reads it afterwards.

    The reader gives None where the provider compiled nothing.
    """
    with scratch_folder() as folder:
        path = folder / "context.onnx"
        entries = {
            "ep.context_enable": "1",
            "ep.context_embed_mode": "1",
            "ep.context_file_path": str(path),
        }
        yield entries, lambda: read_file(path, _MOST_BYTES) if path.is_file() else None
