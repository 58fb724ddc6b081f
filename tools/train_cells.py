"""Fine-tunes a ViT to tell blood cells apart, on crops of labelled photos: an easy model of three classes.

Usage: python -m tools.train_cells --source HF_FOLDER --photos DIR --out DIR [--train N] [--epochs N]

HF_FOLDER is a ViTForImageClassification for values normalised with mean and standard deviation 0.5; PHOTOS
holds the photos and boxes that tools/bccd.py reads. Photos are divided as there, so that no photo gives cells
to both parts; each part has as many cells of every class as it has of the rarest. Writes

    OUT/cells_vit     the tuned model, as transformers writes it, with the source's preprocessing
    OUT/calibration   the cells that were trained on, without labels
    OUT/evaluation    those that judge, and labels.csv

The weights kept are those at the end of the run. The seed is fixed; another processor or torch version may
round differently and end elsewhere.
"""

import argparse
import csv
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from torch import Tensor, nn

from tools.bccd import LABELS, SEED, Photo, divided, read_photos
from tools.digits import Part
from tools.train_digits import MEAN, Recipe, correct, train
from vit_edge.errors import SourceError, UsageError, VitEdgeError
from vit_edge.runtime.evaluate.dataset import LABEL_FILE

TRAIN = 120  # photos; the others judge
MARGIN = 1.25  # side of a crop for each longer side of its box
NAME = "cells_vit"
PREPROCESSOR = "preprocessor_config.json"
RECIPE = Recipe(
    epochs=4,
    batch=16,
    learning_rate=1e-4,
    weight_decay=0.01,
    label_smoothing=0.0,
    average=0.9,
    shift=11.0,
    rotation=180.0,  # cells have no way up
    seed=SEED,
)


class Tuned(nn.Module):
    """The source with a new head, from pixel values to logits."""

    def __init__(self, source: Path) -> None:
        super().__init__()
        names = dict(enumerate(LABELS))
        self.vit = transformers.ViTForImageClassification.from_pretrained(
            source,
            num_labels=len(LABELS),
            id2label=names,
            label2id={label: index for index, label in names.items()},
            ignore_mismatched_sizes=True,  # the head
        )

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, classes)."""
        logits: Tensor = self.vit(pixel_values).logits
        return logits


def square(corners: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the square around a box, moved or shrunk into its photo.

    Args:
        corners: left, top, right, bottom in pixels.
        size: of the photo, pixels (height, width).
    """
    left, top, right, bottom = corners
    side = min(max(2, round(MARGIN * max(right - left, bottom - top))), *size)
    places = []
    for low, high, length in ((left, right, size[1]), (top, bottom, size[0])):
        start = round((low + high - side) / 2)
        places.append(min(max(start, 0), length - side))
    return places[0], places[1], places[0] + side, places[1] + side


def balanced(photos: Sequence[Photo]) -> list[tuple[Photo, int]]:
    """Photos and places of cells in them, as many of each class as there are of the rarest; always the same.

    Raises:
        UsageError: a class has no cell.
    """
    every = [(photo, place) for photo in photos for place in range(len(photo.labels))]
    rng = np.random.default_rng(SEED)
    groups = [[cell for cell in every if cell[0].labels[cell[1]] == label] for label in range(len(LABELS))]
    least = min(len(group) for group in groups)
    if least == 0:
        name = LABELS[[len(group) for group in groups].index(0)]
        raise UsageError(f"{len(photos)} photos have no {name}: give more photos, or another --train")
    return [group[index] for group in groups for index in sorted(rng.permutation(len(group))[:least])]


def part_of(cells: Sequence[tuple[Photo, int]], side: int, out: Path) -> tuple[Part, list[str]]:
    """Write each cell as OUT/PHOTO_PLACE.png, and give what the model sees of it with the files' names."""
    out.mkdir(parents=True)
    pixels, names = [], []
    for photo, place in cells:
        with Image.open(photo.path) as image:
            crop = image.convert("RGB").crop(square(photo.corners[place].tolist(), photo.size))
        names.append(f"{photo.path.stem}_{place:02d}.png")
        crop.save(out / names[-1])
        pixels.append(np.asarray(crop.resize((side, side), Image.Resampling.BICUBIC)))
    labels = np.asarray([photo.labels[place] for photo, place in cells])
    return Part(np.stack(pixels), labels, np.arange(len(cells))), names


def side_of(source: Path) -> int:
    """Pixels of the side that a folder's model takes.

    Raises:
        SourceError: it is no folder of a ViT classifier with square images, normalised as here.
    """
    try:
        config, prepared = (
            json.loads((source / name).read_text(encoding="utf-8")) for name in ("config.json", PREPROCESSOR)
        )
        side = config["image_size"]
        known = config["model_type"] == "vit" and isinstance(side, int)
        same = prepared["image_mean"] == prepared["image_std"] == [MEAN] * 3
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{source} is no Hugging Face folder of a ViT ({error}); give one") from None
    if not (known and same):
        raise SourceError(
            f"{source} is no ViT of square images whose mean and standard deviation are {MEAN}; give one"
        )
    return int(side)


def made(given: argparse.Namespace) -> str:
    """Everything that is written, and one line about it.

    Raises:
        SourceError: nothing to tune.
        UsageError: no photos, too few, no epoch, or an output that exists.
    """
    if given.epochs < 1:
        raise UsageError(f"--epochs {given.epochs}: give 1 or more")
    if given.out.exists():
        raise UsageError(f"{given.out} exists already: name another folder")
    side = side_of(given.source)
    try:
        photos = read_photos(given.photos)
    except (OSError, KeyError, ValueError) as error:
        raise UsageError(f"{given.photos} holds no images/ and boxes.csv of cells ({error})") from None
    chosen = [balanced(each) for each in divided(photos, given.train)]
    if len(chosen[0]) < RECIPE.batch:
        raise UsageError(
            f"{len(chosen[0])} cells to train on, fewer than {RECIPE.batch}: give a larger --train"
        )
    own, _ = part_of(chosen[0], side, given.out / "calibration")
    test, names = part_of(chosen[1], side, given.out / "evaluation")
    with (given.out / "evaluation" / LABEL_FILE).open("w", encoding="utf-8", newline="") as file:
        rows = [(name, LABELS[label]) for name, label in zip(names, test.labels, strict=True)]
        csv.writer(file).writerows([("path", "label"), *rows])
    recipe = dataclasses.replace(RECIPE, epochs=given.epochs)
    transformers.utils.logging.set_verbosity_error()  # that the head is new is what is wanted
    torch.set_num_threads(1)  # sums in one order, whatever the number of cores
    started = time.process_time()
    model = train(own, recipe, lambda: Tuned(given.source))
    seconds = time.process_time() - started
    model.vit.save_pretrained(given.out / NAME)
    shutil.copy(given.source / PREPROCESSOR, given.out / NAME / PREPROCESSOR)
    right = correct(model, test)
    return (
        f"{given.out}: {len(own.labels)} cells trained on for {seconds:.0f} s of the processor, "
        f"{right} of {len(test.labels)} others right"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="train_cells", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--source", type=Path, required=True, metavar="HF_FOLDER")
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--train", type=int, default=TRAIN, metavar="N", help="photos to train on")
    parser.add_argument("--epochs", type=int, default=RECIPE.epochs)
    try:
        print(made(parser.parse_args(arguments)))
    except VitEdgeError as error:
        print(f"train_cells: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
