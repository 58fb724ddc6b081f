"""Calibration kept in a file, so that an interrupted pass goes on and a second preset needs no pass.

One `.npz` per model, preprocessing and list of images, named by the SHA-256 of all of them. It holds arrays
only (no pickle). Whatever is wrong with a file, it is as if it were not there.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_edge.errors import ImageError, UsageError
from vit_edge.files import draft_beside, open_regular, read_file
from vit_edge.host.quantize.histogram import BINS, Histogram
from vit_edge.host.quantize.observe import Observer
from vit_edge.host.quantize.sample import RowSample
from vit_edge.host.quantize.tally import Tallies, Tally
from vit_edge.spec import PreprocessSpec

VERSION = 4  # of the file and of what is collected

_MAX_BYTES = 2**31  # of an image

Arrays = dict[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class CalibrationFile:
    """Where a calibration is kept."""

    folder: Path
    key: str

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / f"calibration-{self.key[:32]}.npz"

    def load(self) -> Tallies:
        """What was kept; nothing done where there is no such file, or it is damaged or another's."""
        try:
            with (
                os.fdopen(open_regular(self.path), "rb") as file,  # array by array: it may be large
                np.load(file, allow_pickle=False) as stored,
            ):
                if sum(each.file_size for each in stored.zip.infolist()) > os.fstat(file.fileno()).st_size:
                    return Tallies()  # it would inflate to more than was ever written
                return _restored({name: stored[name] for name in stored.files}, self.key)
        except Exception:  # a damaged file may raise anything, and it always means that there is none
            return Tallies()

    def save(self, calibration: Tallies) -> None:
        """Replace the file at once.

        Raises:
            UsageError: the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            target = Path(os.path.realpath(self.path))
            with draft_beside(target) as draft:
                with draft.open("r+b") as file:
                    np.savez(file, **_arrays(calibration, self.key))  # type: ignore[arg-type]
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(target)
        except OSError as error:
            raise UsageError(
                f"{self.folder}: the calibration cannot be kept there ({error.strerror}); name another folder"
            ) from error


def key_of(observer: Observer, images: Sequence[Path], preprocess: PreprocessSpec) -> str:
    """SHA-256 of everything that a calibration depends on: model with taps, preprocessing, and image bytes.

    Raises:
        ImageError: an image cannot be read.
    """
    digest = hashlib.sha256(observer.model)
    digest.update(json.dumps([VERSION, list(observer.taps), preprocess.to_json()], sort_keys=True).encode())
    for path in images:
        try:
            digest.update(hashlib.sha256(read_file(path, _MAX_BYTES)).digest())
        except OSError as error:
            raise ImageError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    return digest.hexdigest()


def _arrays(calibration: Tallies, key: str) -> Arrays:
    arrays: Arrays = {
        "key": np.asarray(key),
        "done": np.asarray(calibration.done),
        "taps": np.asarray(list(calibration.tallies)),
    }
    for i, tally in enumerate(calibration.tallies.values()):
        arrays.update({f"{i}.{name}": array for name, array in _tally_arrays(tally)})
    return arrays


def _tally_arrays(tally: Tally) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    blocks = tally.sample.trimmed()
    yield "low", tally.low
    yield "high", tally.high
    yield "sum", tally.sum
    if tally.outer is not None:
        yield "outer", tally.outer
    yield "rows", np.asarray(tally.rows)
    yield "exponent", np.asarray(tally.histogram.exponent)
    yield "counts", tally.histogram.counts
    yield "sample", np.concatenate([rows for _, rows in blocks])
    yield "sample_keys", np.asarray([key for key, _ in blocks], np.int64)
    yield "sample_rows", np.asarray([len(rows) for _, rows in blocks], np.int64)


def _restored(arrays: Arrays, key: str) -> Tallies:
    """The reverse of `_arrays`.

    Raises:
        ValueError: another key, or arrays that do not fit one another.
        KeyError: an array is missing.
    """
    if str(arrays["key"]) != key:
        raise ValueError("the calibration is of another model or of other images")
    tallies = {str(tap): _restored_tally(arrays, i) for i, tap in enumerate(arrays["taps"])}
    if int(arrays["done"]) < 1 or not tallies:
        raise ValueError("nothing was done")
    return Tallies(int(arrays["done"]), tallies)


def _restored_tally(arrays: Arrays, i: int) -> Tally:
    low, high, total, counts, rows = (
        arrays[f"{i}.{name}"] for name in ("low", "high", "sum", "counts", "sample")
    )
    outer = arrays.get(f"{i}.outer")
    channels = len(low)
    lengths = arrays[f"{i}.sample_rows"]
    whole = (
        high.shape == total.shape == (channels,)
        and counts.shape == (BINS,)
        and rows.shape == (int(lengths.sum()), channels)
        and (outer is None or outer.shape == (channels, channels))
    )
    if not whole:
        raise ValueError("the arrays do not fit one another")
    parts = np.split(rows, np.cumsum(lengths)[:-1])
    keys = (int(key) for key in arrays[f"{i}.sample_keys"])
    sample = RowSample(list(zip(keys, parts, strict=True)))
    histogram = Histogram(int(arrays[f"{i}.exponent"]), counts)
    return Tally(low, high, total, outer, int(arrays[f"{i}.rows"]), histogram, sample)
