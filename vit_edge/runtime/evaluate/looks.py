"""The record of earlier looks at a pair of models: in the user's cache, and in the JSON of a comparison.

Both are plain lists of digests of images. The cache remembers by itself on one machine; a server that starts
anew every time keeps the `--json` file, whose next version takes over what it holds.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vit_edge import fields
from vit_edge.runtime.device.user_cache import read_cached, write_cached
from vit_edge.verify.looks import Looked

_VERSION = 1
_MOST_BYTES = 64 * 2**20
_MOST_LOOKS = 1000  # older ones are kept, and no more are taken in

Pair = tuple[str, str]  # SHA-256 of the float file and of the quantized one


def earlier_looks(pair: Pair, record: Path | None = None) -> tuple[Looked, ...]:
    """Looks at this pair, the oldest first.

    Args:
        pair: which models.
        record: JSON that an earlier comparison wrote, if there is such a file; what is none is passed over.
    """
    kept = _looks_of(read_cached(_name(pair), _MOST_BYTES), pair)
    written = () if record is None else _looks_of(_bytes_of(record), pair)
    return tuple(dict.fromkeys([*written, *kept]))


def remember(pair: Pair, looks: Sequence[Looked]) -> bool:
    """Keep the looks; False where the user's cache cannot be written."""
    text = json.dumps({"version": _VERSION, **looks_json(pair, looks)})
    return write_cached(_name(pair), text.encode())


def looks_json(pair: Pair, looks: Sequence[Looked]) -> dict[str, Any]:
    """What `earlier_looks` reads back."""
    return {"pair": list(pair), "looks": [sorted(look) for look in looks[:_MOST_LOOKS]]}


def _name(pair: Pair) -> str:
    return f"looks/{hashlib.sha256(''.join(pair).encode()).hexdigest()[:32]}.json"


def _bytes_of(path: Path) -> bytes | None:
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return None
        return path.read_bytes()
    except OSError:
        return None


def _looks_of(data: bytes | None, pair: Pair) -> tuple[Looked, ...]:
    """The looks in a ledger or a comparison; none where it is neither, or of other models."""
    if data is None:
        return ()
    try:
        raw = fields.parse_json(data, "the record")
        if isinstance(raw, dict) and isinstance(raw.get("evidence"), dict):
            raw = raw["evidence"].get("history")
        if not isinstance(raw, dict) or raw.get("pair") != list(pair):
            return ()
        listed = [fields.strings(each, "a look") for each in fields.sequence(raw.get("looks"), "looks")]
    except ValueError:
        return ()
    return tuple(frozenset(each) for each in listed[:_MOST_LOOKS] if each and max(map(len, each)) <= 64)
