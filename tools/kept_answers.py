"""Answers of a slow simulator, kept on disk image by image: what breaks off goes on where it was.

An answer is found again by a hash of all that it came from: the model file, what ran it, and the pixels. So
another file, another version of a plugin or another image never gets an answer that is not its own.
"""

import dataclasses
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


@dataclasses.dataclass(frozen=True)
class Kept:
    """Where answers are kept, and how many images this run may add."""

    folder: Path | None = None
    """None keeps nothing."""
    more: int | None = None
    """None: every image is run."""


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """What was answered so far."""

    places: npt.NDArray[np.intp]
    """Of the images, in ascending order."""
    logits: Logits
    """Of these, (N, C)."""


def kept_answers(session: Answering, pixels: Pixels, model: bytes, runs: str, kept: Kept) -> Answers:
    """The logits of images, run one by one, or read where they were kept.

    The images are run in an order in which those that are done are spread over all of them at any time.

    Args:
        session: opened from the model; asked for the images alone that are not kept.
        pixels: uint8 (N, H, W, 3).
        model: the bytes of its file.
        runs: what runs it, with its version and options.
        kept: where answers are kept, and how many images may be run.

    Raises:
        UsageError: a kept file holds no logits, or nothing is kept and nothing may be run.
    """
    own = (
        kept.folder
        and kept.folder / hashlib.sha256(hashlib.sha256(model).digest() + runs.encode()).hexdigest()
    )
    left, rows = len(pixels) if kept.more is None else kept.more, {}
    for place in spread_order(len(pixels)):
        path = own and own / f"{hashlib.sha256(pixels[place].tobytes()).hexdigest()}.float32"
        if path is not None and path.is_file():
            rows[place] = _read(path)
        elif not left:
            continue
        else:
            left, rows[place] = left - 1, session.run(pixels[place][None])
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_file(path, rows[place].astype("<f4").tobytes())
        print(f"{len(rows)} images of {len(pixels)}", file=sys.stderr, flush=True)
    if not rows:
        raise UsageError("no answer is kept, and no image may be run; allow some with --more")
    places = sorted(rows)
    return Answers(np.array(places, np.intp), np.concatenate([rows[place] for place in places]))


def spread_order(count: int) -> list[int]:
    """0 to `count` - 1 in an order of which every beginning is spread evenly (van der Corput, in base 2)."""
    bits = max(count - 1, 1).bit_length()
    turned = (int(f"{place:0{bits}b}"[::-1], 2) for place in range(2**bits))
    return [place for place in turned if place < count]


def _read(path: Path) -> Logits:
    data = read_file(path, _MOST_BYTES)
    if not data or len(data) % 4 or not np.isfinite(values := np.frombuffer(data, "<f4")).all():
        raise UsageError(f"{path} holds no kept answer; remove it, and the image is run again")
    return values.astype(np.float32)[None]
