"""Cluttered canvases with digits on them, their boxes and their masks, from scikit-learn's digits alone.

Usage: python -m tools.canvases OUT [--calibration N] [--test N] [--seed N]

Writes OUT/calibration and OUT/test (pictures), OUT/boxes.json (COCO's form) and OUT/masks (the class of each
pixel, 0 for the ground and 1 to 10 for the digits) of the test part, and the labels of both kinds of model as
OUT/boxes.txt and OUT/masks.txt. Digits of a part of tools/digits.py are on canvases of that part only.
"""

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from tools.digits import LABELS, Part, split

SIDE = 64  # pixels of a canvas
GROUND = "ground"
MASK_LABELS = (GROUND, *LABELS)
SMALLEST, LARGEST = 20, 32  # pixels of the square that a digit is painted in
MOST_DIGITS = 4
TRIES = 20  # places that are tried for one digit
TILT = 10.0  # degrees, largest
INK = 0.5  # cover from which a pixel counts as the digit's
SEED = 2026

Pixels = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, eq=False)
class Canvas:
    """One picture and what is true of it."""

    pixels: Pixels  # (SIDE, SIDE, 3)
    mask: Pixels  # (SIDE, SIDE), 0 or 1 + the digit
    labels: npt.NDArray[np.int64]  # (M,), 0 to 9
    corners: npt.NDArray[np.float32]  # (M, 4) left, top, right, bottom in pixels, around the ink


def canvas(part: Part, generator: np.random.Generator) -> Canvas:
    """A canvas with one to MOST_DIGITS digits of a part, none over another."""
    levels = _ground(generator)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    taken: list[tuple[int, int, int]] = []
    labels, corners = [], []
    for chosen in generator.integers(0, len(part.labels), generator.integers(1, MOST_DIGITS + 1)):
        side = int(generator.integers(SMALLEST, LARGEST + 1))
        place = _free(taken, side, generator)
        if place is None:
            continue
        row, column = place
        taken.append((row, column, side))
        cover = _cover(part.pixels[chosen], side, float(generator.uniform(-TILT, TILT)))
        tint = generator.uniform(150, 255) * generator.uniform(0.75, 1, 3)
        window = levels[row : row + side, column : column + side]
        window += cover[..., None] * (tint - window)
        inked = cover >= INK
        mask[row : row + side, column : column + side][inked] = 1 + part.labels[chosen]
        rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
        labels.append(part.labels[chosen])
        corners.append((column + columns[0], row + rows[0], column + columns[-1] + 1, row + rows[-1] + 1))
    noisy = levels + generator.normal(0, 6, levels.shape)
    return Canvas(
        noisy.round().clip(0, 255).astype(np.uint8),
        mask,
        np.asarray(labels, np.int64),
        np.asarray(corners, np.float32).reshape(-1, 4),
    )


def canvases(part: Part, seed: int = SEED) -> Iterator[Canvas]:
    """Canvases without end, the same for the same part and seed."""
    generator = np.random.default_rng(seed)
    while True:
        yield canvas(part, generator)


def _ground(generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """Clouds, thin lines and blots, (SIDE, SIDE, 3) in levels 0 to 255."""
    coarse = generator.integers(0, 110, (4, 4, 3)).astype(np.uint8)
    picture = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for _ in range(generator.integers(2, 6)):
        ends = generator.integers(0, SIDE, 4).tolist()
        pen.line(ends, fill=tuple(generator.integers(30, 190, 3).tolist()), width=1)
    for _ in range(generator.integers(0, 4)):
        left, top, wide, tall = (*generator.integers(0, SIDE, 2), *generator.integers(2, 12, 2))
        colour = tuple(generator.integers(30, 190, 3).tolist())
        pen.ellipse((int(left), int(top), int(left + wide), int(top + tall)), fill=colour)
    return np.asarray(picture, np.float64).copy()


def _free(
    taken: list[tuple[int, int, int]], side: int, generator: np.random.Generator
) -> tuple[int, int] | None:
    """Row and column of a square that covers no other; None where none was found."""
    for row, column in generator.integers(0, SIDE - side + 1, (TRIES, 2)).tolist():
        if all(
            row + side <= top or top + other <= row or column + side <= left or left + other <= column
            for top, left, other in taken
        ):
            return row, column
    return None


def _cover(digit: Pixels, side: int, degrees: float) -> npt.NDArray[np.float64]:
    """How much of each pixel of a square is ink, (side, side), 0 to 1."""
    turned = Image.fromarray(digit[..., 0]).rotate(degrees, Image.Resampling.BICUBIC)
    sized = turned.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(sized, np.float64) / 255


def write(out: Path, calibration: int, test: int, seed: int = SEED) -> None:
    """The folders and files of this module's first lines."""
    parts = split()
    for folder in ("calibration", "test", "masks"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for number, made in zip(range(calibration), canvases(parts["calibration"], seed), strict=False):
        Image.fromarray(made.pixels).save(out / "calibration" / f"{number:04d}.png")
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number, made in zip(range(test), canvases(parts["test"], seed), strict=False):
        name = f"{number:04d}.png"
        Image.fromarray(made.pixels).save(out / "test" / name)
        Image.fromarray(made.mask).save(out / "masks" / name)
        images.append({"id": number, "file_name": name, "width": SIDE, "height": SIDE})
        for label, (left, top, right, bottom) in zip(made.labels, made.corners.tolist(), strict=True):
            box = [left, top, right - left, bottom - top]
            annotations.append({"image_id": number, "category_id": int(label), "bbox": box})
    named = [{"id": index, "name": label} for index, label in enumerate(LABELS)]
    truth = {"images": images, "categories": named, "annotations": annotations}
    (out / "boxes.json").write_text(json.dumps(truth), encoding="utf-8")
    (out / "boxes.txt").write_text("".join(f"{label}\n" for label in LABELS), encoding="utf-8")
    (out / "masks.txt").write_text("".join(f"{label}\n" for label in MASK_LABELS), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write canvases with digits, their boxes and masks.")
    parser.add_argument("out", type=Path, help="folder that receives all")
    parser.add_argument("--calibration", type=int, default=128, metavar="N")
    parser.add_argument("--test", type=int, default=500, metavar="N")
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    write(given.out, given.calibration, given.test, given.seed)
    print(f"{given.out}: {given.calibration} canvases to calibrate with, {given.test} to test, with truth")


if __name__ == "__main__":
    main()
