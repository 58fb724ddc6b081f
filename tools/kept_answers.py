"""Answers of a slow simulator, kept on disk image by image: what breaks off goes on where it was.

An answer is found again by a hash of all that it came from: the model file, what ran it, and the pixels. So
another file, another version of a plugin or another image never gets an answer that is not its own.
"""

import hashlib
import sys
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vit_edge.errors import UsageError
from vit_edge.files import read_file, write_file

Logits = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

_MOST_BYTES = 2**24  # of one image's logits


class Answering(Protocol):
    """What gives the logits of a batch, as a session does."""

    def run(self, pixels: Pixels) -> Logits:
        """Of uint8 (N, H, W, 3), float32 (N, C)."""
        ...


def kept_answers(session: Answering, pixels: Pixels, model: bytes, runs: str, folder: Path | None) -> Logits:
    """The logits of every image, run one by one, or read where they were kept.

    Args:
        session: opened from the model; asked for the images alone that are not kept.
        pixels: uint8 (N, H, W, 3).
        model: the bytes of its file.
        runs: what runs it, with its version and options.
        folder: keeps the answers; None keeps nothing.

    Returns:
        float32 (N, C).

    Raises:
        UsageError: a kept file holds no logits.
    """
    if folder is None:
        return np.concatenate([session.run(image[None]) for image in pixels])
    own = folder / hashlib.sha256(hashlib.sha256(model).digest() + runs.encode()).hexdigest()
    own.mkdir(parents=True, exist_ok=True)
    rows = []
    for done, image in enumerate(pixels, 1):
        path = own / f"{hashlib.sha256(image.tobytes()).hexdigest()}.float32"
        if path.is_file():
            rows.append(_read(path))
        else:
            rows.append(session.run(image[None]))
            write_file(path, rows[-1].astype("<f4").tobytes())
        print(f"image {done} of {len(pixels)}", file=sys.stderr, flush=True)
    return np.concatenate(rows)


def _read(path: Path) -> Logits:
    data = read_file(path, _MOST_BYTES)
    if not data or len(data) % 4 or not np.isfinite(values := np.frombuffer(data, "<f4")).all():
        raise UsageError(f"{path} holds no kept answer; remove it, and the image is run again")
    return values.astype(np.float32)[None]
