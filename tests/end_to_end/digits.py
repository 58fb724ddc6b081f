"""The bundle of the embedded model that several files test."""

from pathlib import Path
from typing import NamedTuple


class Built(NamedTuple):
    """What one run of `vit-edge build` left behind."""

    bundle: Path
    images: Path
    manifest: Path
    status: int
