"""Trains the detector and the segmenter on the digits ViT's patch grid and writes models/digits_dense.

Usage: python -m tools.train_dense [--out DIR] [--steps N]

Both heads are trained at once, with the encoder, on canvases that are painted as they are needed from the
training digits alone. What the card says is measured here, on the weights that were written.
"""

import argparse
import copy
import dataclasses
import itertools
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.canvases import LARGEST, MOST_DIGITS, SIDE, SMALLEST, Canvas, canvases, write
from tools.dense_heads import Objects, box_loss
from tools.digits import Part, split
from tools.digits_dense import CONFIG, STATED, WEIGHTS, DenseDigits, load, save, started, write_onnx
from tools.train_digits import follow, to_input
from tools.vit_or_cnn import done
from vit_edge.cli import main as vit_edge

TEST = 500  # canvases that the card is about


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the model is trained; everything random follows from the seed."""

    steps: int = 3000
    batch: int = 32
    learning_rate: float = 1e-3  # peak of a linear warm-up and cosine decay
    warmup: float = 0.05  # share of all steps
    weight_decay: float = 0.05
    average: float = 0.995  # decay of the exponential moving average, whose weights are kept
    mask_weight: float = 20.0  # of the loss of masks, per pixel, beside that of boxes, per object
    seed: int = 2026


def batch_of(chosen: list[Canvas]) -> tuple[Tensor, Tensor, list[Objects]]:
    """Normalised images (N, 3, SIDE, SIDE), masks (N, SIDE, SIDE) and objects."""
    images = to_input(np.stack([each.pixels for each in chosen]))
    masks = torch.from_numpy(np.stack([each.mask for each in chosen]).astype(np.int64))
    objects = [
        Objects(torch.from_numpy(each.labels), torch.from_numpy(each.corners) / SIDE) for each in chosen
    ]
    return images, masks, objects


def loss_of(model: DenseDigits, chosen: list[Canvas], recipe: Recipe) -> Tensor:
    """Of both heads on some canvases."""
    images, masks, objects = batch_of(chosen)
    grid = model.grid(images)
    scores = F.interpolate(model.masks(grid), (SIDE, SIDE), mode="bilinear", align_corners=False)
    return box_loss(model.boxes, model.boxes(grid), objects) + recipe.mask_weight * F.cross_entropy(
        scores, masks
    )


def train(part: Part, recipe: Recipe) -> DenseDigits:
    """The moving average of the weights over a full run."""
    torch.manual_seed(recipe.seed)
    model = started()
    averaged = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        recipe.learning_rate,
        total_steps=recipe.steps,
        pct_start=recipe.warmup,
        cycle_momentum=False,
    )
    painted, losses = canvases(part, recipe.seed), []
    for step in range(recipe.steps):
        loss = loss_of(model, list(itertools.islice(painted, recipe.batch)), recipe)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        follow(averaged, model, 1 - recipe.average)
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}/{recipe.steps}: loss {np.mean(losses[-100:]):.4f}", flush=True)
    return averaged


CARD = """\
---
license: apache-2.0
pipeline_tag: object-detection
---
# digits_dense

A detector and a segmenter of handwritten digits on cluttered canvases: the worked examples of
[dense heads](../../docs/dense.md#worked-examples). `python -m tools.digits_dense OUT` writes both as ONNX
files from these weights.

| | |
|---|---|
| encoder | [digits_vit](../digits_vit/README.md), tuned; {side}x{side} pixels, {rows}x{columns} patches |
| head for boxes | two convolutions, a box for each patch, of DETR's form |
| head for masks | ConvTranspose and a convolution, the ground and ten digits on {mask}x{mask} places |
| parameters | {parameters:,}, stored in half precision |
| trained on | {steps} batches of {batch} canvases, {seconds:.0f} s on a thread of a shared CPU |
| boxes, {test} canvases with test digits | **{map:.1f} %** mAP@0.5:0.95, {map50:.1f} % mAP@0.5 |
| masks, the same canvases | **{miou:.1f} %** mIoU |

A canvas has one to {most} digits of {smallest} to {largest} pixels on clouds, lines and blots
(`tools/canvases.py`). The digits are those of [digits_vit](../digits_vit/README.md#data), of scikit-learn's
copy and CC BY 4.0; canvases to train on, to calibrate with and to test have digits of their own part each.
The weights kept are those at the end of the run.

## Remake
`python -m tools.train_dense` writes this folder, this card's figures included. The seed is fixed; another
processor or torch version may round differently and end a few tenths of a point away.
"""


def measured(model: DenseDigits, folder: Path) -> dict[str, float]:
    """What `vit-edge compare --truth` finds of the float models, in percent, by measure."""
    write(folder, 1, TEST)
    write_onnx(model, folder)
    found: dict[str, float] = {}
    for name, truth, labels in (
        ("detector", "boxes.json", "boxes.txt"),
        ("segmenter", "masks", "masks.txt"),
    ):
        made, report = str(folder / f"{name}_float.onnx"), folder / f"{name}.json"
        stated = [*STATED, "--labels", str(folder / labels), "--quiet"]
        done(vit_edge(["optimize", str(folder / f"{name}.onnx"), "-o", made, *stated]))
        data = ["--data", str(folder / "test"), "--truth", str(folder / truth), "--independent"]
        done(vit_edge(["compare", made, made, "--self", *data, "--json", str(report), "--quiet"]))
        rows = json.loads(report.read_text(encoding="utf-8"))["evidence"]["truth"]
        found |= {row["measure"]: row["score_float"] for row in rows}
    return found


def write_card(out: Path, recipe: Recipe, seconds: float) -> None:
    """Measure the written weights and write the card."""
    model = load(out / WEIGHTS.name)
    with tempfile.TemporaryDirectory() as folder:
        found = measured(model, Path(folder))
    card = CARD.format(
        side=SIDE,
        rows=CONFIG.grid[0],
        columns=CONFIG.grid[1],
        mask=4 * CONFIG.grid[0],
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        steps=recipe.steps,
        batch=recipe.batch,
        seconds=seconds,
        test=TEST,
        map=found["map_50_95"],
        map50=found["map_50"],
        miou=found["miou"],
        most=MOST_DIGITS,
        smallest=SMALLEST,
        largest=LARGEST,
    )
    (out / "README.md").write_text(card, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the dense heads and write them with their card.")
    parser.add_argument("--out", type=Path, default=WEIGHTS.parent, help="folder to write")
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    given = parser.parse_args()
    recipe = Recipe(steps=given.steps)
    torch.set_num_threads(1)  # sums in one order, whatever the number of cores
    begun = time.monotonic()
    model = train(split()["train"], recipe)
    seconds = time.monotonic() - begun
    save(model, given.out / WEIGHTS.name)
    write_card(given.out, recipe, seconds)
    print(f"{given.out}: trained in {seconds:.0f} s")


if __name__ == "__main__":
    main()
