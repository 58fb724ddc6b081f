"""Folders of digit images from scikit-learn's own copy of the UCI optical digits, without any download.

Usage: python tools/digits.py OUT

Writes OUT/train, OUT/calibration and OUT/test: disjoint, stratified, fixed for ever by the seed below, each
with one folder per class named as the model's label. The rendering from 8x8 to 32x32 is the one the model is
trained on.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits

LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE = 32  # pixels
SPLIT_SEED = 20260
TEST_PER_CLASS = 42
CALIBRATION_PER_CLASS = 13


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of the split, N images."""

    pixels: npt.NDArray[np.uint8]  # (N, 32, 32, 3)
    labels: npt.NDArray[np.int64]  # (N,)
    index: npt.NDArray[np.int64]  # (N,), places in scikit-learn's data set


def render(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """One 8x8 image with levels 0 to 16 as grey RGB uint8 (32, 32, 3), bicubic."""
    grey = np.round(levels * (255 / 16)).astype(np.uint8)
    enlarged = Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(enlarged.convert("RGB"))


def split() -> dict[str, Part]:
    """The parts `train`, `calibration` and `test`; every image of the data set is in exactly one."""
    levels, target = load_digits(return_X_y=True)
    rng = np.random.default_rng(SPLIT_SEED)
    chosen: dict[str, list[npt.NDArray[np.int64]]] = {"train": [], "calibration": [], "test": []}
    for label in range(len(LABELS)):
        members = rng.permutation(np.flatnonzero(target == label))
        first = TEST_PER_CLASS + CALIBRATION_PER_CLASS
        chosen["test"].append(members[:TEST_PER_CLASS])
        chosen["calibration"].append(members[TEST_PER_CLASS:first])
        chosen["train"].append(members[first:])
    rendered = np.stack([render(image.reshape(8, 8)) for image in levels])
    parts = {name: np.sort(np.concatenate(groups)) for name, groups in chosen.items()}
    return {name: Part(rendered[index], target[index], index) for name, index in parts.items()}


def make_folders(out: Path) -> None:
    """Write OUT/PART/LABEL/NUMBER.png for every image; the number is its index in scikit-learn's data set."""
    for name, part in split().items():
        for pixels, label, number in zip(part.pixels, part.labels, part.index, strict=True):
            folder = out / name / LABELS[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{number:04d}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the digits as image folders.")
    parser.add_argument("out", type=Path, help="folder that receives train, calibration and test")
    out = parser.parse_args().out
    make_folders(out)
    print(f"{out}: " + ", ".join(f"{len(part.labels)} {name}" for name, part in split().items()))


if __name__ == "__main__":
    main()
