"""One hash for a model that lies in several files."""

import hashlib
from collections.abc import Mapping


def combined_sha256(digests: Mapping[str, str]) -> str:
    """That of the one file, or for several that of the list `sha256sum` prints of them, sorted by name.

    Args:
        digests: name of each file -> its SHA-256.
    """
    if len(digests) == 1:
        return next(iter(digests.values()))
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
